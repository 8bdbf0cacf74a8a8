package handle

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/testkit"
)

// Where the handle has ended, and whoever has the turn isn't back yet, it is no use to look again
// and again. If somebody did, the Wait here would never be over.
func TestATurnIsAwaitedWithoutLookingAgainAndAgain(t *testing.T) {
	for name, ended := range map[string]error{"a handle": nil, "one that has ended": errors.New("ended")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := testkit.NewFake()
				defer f.Close()
				h := on(t, f)
				h.mu.Lock()
				h.writing.try()
				if h.err = ended; ended != nil {
					h.caller.Leave()
				}
				h.mu.Unlock()
				took := make(chan error)
				go func() {
					h.mu.Lock()
					defer h.mu.Unlock()
					took <- h.take(&h.writing, time.Time{})
				}()
				synctest.Wait()
				select {
				case err := <-took:
					t.Errorf("two have the turn, or one is told %v", err)
				default:
				}
				h.mu.Lock()
				h.writing.end()
				h.mu.Unlock()
				if err := <-took; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
