package bench

import (
	"sync"
	"time"
)

// gate has callers wait for each other, as those wait whose replies come
// together: it opens for all when so many are there. Waiting and being woken is
// all that passing costs.
type gate struct {
	size int

	mu      sync.Mutex
	waiting []chan struct{}
	spare   []chan struct{}
	timer   *time.Timer // opens it when no more come
}

// gateOpens is how long the last ones of a round wait for more.
const gateOpens = 5 * time.Millisecond

// newGate returns a gate for half of the callers at a time.
func newGate(callers int) *gate {
	g := &gate{size: max(1, callers/2)}
	g.timer = time.AfterFunc(time.Hour, g.open)
	g.timer.Stop()
	return g
}

func (g *gate) pass() {
	g.mu.Lock()
	if len(g.waiting)+1 >= g.size {
		g.openLocked()
		g.mu.Unlock()
		return
	}
	var turn chan struct{}
	if n := len(g.spare); n > 0 {
		turn, g.spare = g.spare[n-1], g.spare[:n-1]
	} else {
		turn = make(chan struct{}, 1)
	}
	if len(g.waiting) == 0 {
		g.timer.Reset(gateOpens)
	}
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()
	<-turn
	g.mu.Lock()
	g.spare = append(g.spare, turn)
	g.mu.Unlock()
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.openLocked()
}

func (g *gate) openLocked() {
	for _, turn := range g.waiting {
		turn <- struct{}{}
	}
	g.waiting = g.waiting[:0]
	g.timer.Stop()
}
