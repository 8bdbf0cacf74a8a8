package pooler_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// Contexts that are to last for ever have deadlines of which no duration is long enough;
// they have no monotonic reading either.
func TestADeadlineThatIsTooFarAwayForADurationIsNotOverAtOnce(t *testing.T) {
	for name, by := range map[string]func() time.Time{
		"the year 9999":        func() time.Time { return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) },
		"the longest duration": func() time.Time { return time.Now().Add(math.MaxInt64) },
	} {
		t.Run(name, func(t *testing.T) {
			byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 1<<20, func(pt *tester, h *hand) {
				time.Sleep(time.Minute) // the pool is no longer new
				sh, err := pt.pool.Share(context.Background(), pooler.Request{Session: pt.plain, Deadline: by()})
				if err != nil {
					t.Fatal(err)
				}
				r := &ride{pt: pt, rider: pooler.NewRider(), x: ask("GET", "k"), size: 4 << 10, by: by(), done: make(chan struct{})}
				r.x.Deadline = by()
				r.begin(sh)
				w := h.wire(0)
				w.hear(r)
				r.wantWaiting()
				time.Sleep(time.Hour)
				w.say(":1\r\n")
				r.wantReply(":1\r\n")
			})
		})
	}
}
