package handle

import (
	"errors"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// In a bubble no time has a monotonic reading, by which deadlines of contexts are known.
func TestAnotherWaitIsBoundedByTheContextAndNotByTheSocket(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		by, want time.Time
		final    bool
		ended    bool
	}{
		"the socket's":                    {by: now.Round(0).Add(time.Hour), want: now.Round(0).Add(time.Hour + time.Second)},
		"the socket's, passed":            {by: now.Round(0).Add(-time.Millisecond), want: now.Round(0).Add(time.Second - time.Millisecond)},
		"the context's":                   {by: now.Add(time.Hour), want: now.Add(time.Hour)},
		"the context's, passed":           {by: now, want: now, ended: true},
		"the context's, which Read knows": {by: now.Round(0).Add(time.Hour), final: true, want: now.Round(0).Add(time.Hour)},
		"none":                            {},
	} {
		t.Run(name, func(t *testing.T) {
			waited := &pooler.Error{Err: pooler.ErrWaitTimeout, Waited: time.Second}
			h := &handle{writeBy: given(c.by)}
			by, err := h.waitAgain(&pooler.Request{Deadline: c.by, Final: c.final || h.writeBy.ofContext}, waited)
			if !by.Equal(c.want) || errors.Is(err, pooler.ErrWaitTimeout) != c.ended {
				t.Errorf("until %v, error %v; want %v, ended: %v", by, err, c.want, c.ended)
			}
			if !h.writeBy.Equal(c.want) {
				t.Errorf("Write goes by %v, want %v", h.writeBy.Time, c.want)
			}
			if want := 1; !c.ended && h.b.waits != want {
				t.Errorf("%d waits are counted", h.b.waits)
			}
		})
	}
}
