package topology

import (
	"testing"
	"testing/synctest"
	"time"
)

// That a replica is away is told for a moment, once in a second: who comes back soon is
// MOVED.
func TestThatAReplicaIsAwayIsToldOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := New(Home{}, "cluster", nil, Ways{})
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
					top.TurnedAway("a:1")
				}
				if !top.maySayAway("b:1") {
					t.Error("of another replica it isn't told")
				}
			}
		}
		time.Sleep(time.Minute)
		top.TurnedAway("b:1")
		if n := len(top.saidAway); n != 1 {
			t.Errorf("%d are remembered, want the one that it is told of", n)
		}
	})
}
