package gather

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
)

// line is where commands board that may be in one batch.
type line struct {
	chain *chain

	mu     sync.Mutex
	flying int
	open   *batch // gathering; nil unless all flights are under way
}

// batch is commands that run as one pipeline.
type batch struct {
	cmds []redis.Cmder // nil: its caller has left before the take-off
	left int           // of those
	off  bool          // it has taken off
	lead chan struct{} // has the caller fly it that leads; nil: none can
	over chan struct{} // closed when it is over
}

// Where a command may be but at a place in its batch.
const (
	leading = -1 - iota // in the batch, which its caller is to fly
	alone               // in no batch; its caller has a flight, to be ended by land
	refused             // nowhere
)

// board puts the command into the batch that is gathering, if all flights are under way.
func (l *line) board(cmd redis.Cmder, mayLeave bool) (b *batch, at int) {
	cfg := &l.chain.g.cfg
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flying < cfg.Flights {
		l.flying++
		return nil, alone
	}
	if l.open == nil {
		l.open = &batch{cmds: borrow(), over: make(chan struct{})}
	}
	b = l.open
	if len(b.cmds) >= cfg.Largest {
		return nil, refused
	}
	b.cmds = append(b.cmds, cmd)
	if b.lead == nil && !mayLeave {
		b.lead = make(chan struct{}, 1)
		return b, leading
	}
	return b, len(b.cmds) - 1
}

// await waits until the batch is over. It fails if the context ends before.
func (l *line) await(ctx context.Context, b *batch, at int, effect command.Effect) error {
	select {
	case <-b.over:
		return nil
	case <-ctx.Done():
	}
	switch {
	case l.leave(b, at), effect == command.Read:
		return ctx.Err()
	}
	return l.chain.g.cfg.Unknown(ctx.Err())
}

// leave takes a command out of its batch. It reports false if that has taken off.
func (l *line) leave(b *batch, at int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.off {
		return false
	}
	b.cmds[at] = nil
	b.left++
	return true
}

// land ends a flight, and begins the next one if anybody has boarded.
func (l *line) land() {
	b := l.next()
	switch {
	case b == nil:
	case b.lead != nil:
		b.lead <- struct{}{}
	default:
		l.chain.g.launch(func() { l.fly(b) })
	}
}

// next has the batch that is gathering take off, or gives the flight back.
func (l *line) next() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.open
	l.open = nil
	if b == nil || b.left == len(b.cmds) {
		l.flying--
		return nil
	}
	b.off = true
	return b
}

// fly runs the batch. If that panics, its commands have an error.
func (l *line) fly(b *batch) {
	cmds := b.cmds
	if b.left > 0 {
		cmds = slices.DeleteFunc(cmds, func(cmd redis.Cmder) bool { return cmd == nil })
	}
	finished := false
	defer func() {
		if !finished {
			stamp(cmds, fmt.Errorf("everpool: a batch of %d commands has panicked", len(cmds)))
		}
		l.land()
		close(b.over)
		giveBack(b.cmds)
	}()
	l.chain.g.batches.Add(1)
	l.chain.run(cmds)
	finished = true
}

// launch runs a flight on a goroutine of its own.
func (g *Gatherer) launch(fly func()) {
	g.mu.Lock()
	g.up++
	g.mu.Unlock()
	go func() {
		defer func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.up--; g.up == 0 {
				g.landed.Broadcast()
			}
		}()
		fly()
	}()
}

// run runs the commands as a pipeline that go-redis doesn't repeat.
func (c *chain) run(cmds []redis.Cmder) {
	first := cmds[0]
	cmds[0] = once{first}
	err := c.pipeline(context.Background(), cmds)
	cmds[0] = first
	if err == nil {
		return
	}
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			return
		}
	}
	stamp(cmds, err) // go-redis does, but that is nowhere said
}

// once is a command that go-redis doesn't run again, nor what is in a pipeline with it.
type once struct{ redis.Cmder }

// NoRetry is true.
func (once) NoRetry() bool { return true }

// stamp gives all commands the error that have none.
func stamp(cmds []redis.Cmder, err error) {
	for _, cmd := range cmds {
		if cmd.Err() == nil {
			cmd.SetErr(err)
		}
	}
}

// lists are of *[]redis.Cmder, empty.
var lists sync.Pool

func borrow() []redis.Cmder {
	if list, ok := lists.Get().(*[]redis.Cmder); ok {
		return *list
	}
	return make([]redis.Cmder, 0, 32)
}

// giveBack lends the list to another batch.
func giveBack(list []redis.Cmder) {
	clear(list)
	list = list[:0]
	lists.Put(&list)
}
