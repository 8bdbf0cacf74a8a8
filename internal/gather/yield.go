package gather

import (
	"sync"
	"sync/atomic"
)

// yield is how much flights have carried of late. Callers that do much else between two
// calls are inside together now and then, and still fill no batches: they are faster
// alone. So gathering rests after flights that have carried little, and then tries again.
// The zero value has it gather.
type yield struct {
	rest atomic.Int64 // calls that go straight on before it tries again

	mu      sync.Mutex
	flights int
	carried int
	beside  int // for each command that was carried: how many were in its flight
}

// How many flights tell, and how many calls a rest lasts: so long that trying costs a
// percent of them at most.
const (
	telling   = 16
	restCalls = 5000
)

// rests reports whether the call is to go straight on.
func (y *yield) rests() bool { return y.rest.Load() > 0 && y.rest.Add(-1) >= 0 }

// landed counts a flight of n commands. On average a command is to be one of so many: a line
// that has few (the writes of callers who mostly read) says nothing of the others.
func (y *yield) landed(n, worth int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.flights++
	y.carried += n
	y.beside += n * n
	if y.flights < telling {
		return
	}
	if y.beside < y.carried*worth {
		y.rest.Store(restCalls)
	}
	y.flights, y.carried, y.beside = 0, 0, 0
}
