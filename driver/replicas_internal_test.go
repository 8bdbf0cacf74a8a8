package driver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/command"
)

// That a replica is away is told for a moment, once in a second: who comes back soon is
// MOVED.
func TestThatAReplicaIsAwayIsToldOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := newTopology(nil, "cluster", nil)
		for range 3 {
			for _, c := range []struct {
				pause time.Duration
				want  bool
			}{{0, true}, {3 * time.Millisecond, true}, {5 * time.Millisecond, false}, {900 * time.Millisecond, false}, {time.Minute, true}} {
				time.Sleep(c.pause)
				may := top.maySayAway("a:1")
				if may != c.want {
					t.Errorf("after another %v: %v, want %v", c.pause, may, c.want)
				}
				if may {
					top.sayAway("a:1")
				}
				if !top.maySayAway("b:1") {
					t.Error("of another replica it isn't told")
				}
			}
		}
		time.Sleep(time.Minute)
		top.sayAway("b:1")
		if n := len(top.saidAway); n != 1 {
			t.Errorf("%d are remembered, want the one that it is told of", n)
		}
	})
}

// What is sent to a replica in the place of the primary is what a replica runs: it would
// send anything else back.
func TestWhatOnlyReadsAKeyRunsOnAReplica(t *testing.T) {
	for info := range command.All() {
		r := run{kind: kindOf(&command.Facts{Info: info, Class: info.Class, Pin: info.Pin})}
		if r.kind == plain && info.Effect == command.Read && len(info.Keys) > 0 && !info.Flags.Has(command.FlagReadOnly) {
			t.Errorf("%s only reads, and isn't flagged so", info.Name)
		}
	}
}
