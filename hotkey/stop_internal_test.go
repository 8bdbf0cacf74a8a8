package hotkey

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// A window may end when Close has begun.
func TestNothingIsCountedOnceTheTrackerHasStopped(t *testing.T) {
	tracker, err := New(Config{ReadSampleRate: 1, Window: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer tracker.Close()
	op := &hooks.Operation{Cmds: []redis.Cmder{redis.NewCmd(context.Background(), "get", "k")}}
	tracker.End(t.Context(), op)
	tracker.stop()
	tracker.aim()
	tracker.End(t.Context(), op)
	if n := tracker.Stats().Reads.Samples; n != 1 {
		t.Errorf("%d samples, want the one from before", n)
	}
}

func TestCountsThatWaitDoNotWrap(t *testing.T) {
	p := newPending(2)
	for range 2 {
		p.add(Reads, map[string]uint64{"a": math.MaxUint64 - 1, "b": math.MaxUint64 - 1})
	}
	if s := p.snapshot(); s.Pending != math.MaxUint64 || p.counts[Reads]["a"] != math.MaxUint64 {
		t.Errorf("%+v, a waits with %d", s, p.counts[Reads]["a"])
	}
	for range 2 {
		p.settle(outcome{written: math.MaxUint64 - 1, unknown: math.MaxUint64 - 1}, false)
		p.add(Writes, map[string]uint64{"a": math.MaxUint64 - 1})
		p.drop()
	}
	if s := p.snapshot(); s.Written != math.MaxUint64 || s.Unknown != math.MaxUint64 || s.Dropped != math.MaxUint64 || s.lost() != math.MaxUint64 {
		t.Errorf("%+v", s)
	}
}
