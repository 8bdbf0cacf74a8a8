package gather

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
)

// line is where commands board that may be in one batch.
type line struct {
	chain *chain

	mu     sync.Mutex
	flying int // flights under way
	aloft  int // commands in them
	open   *batch
	timer  *time.Timer // nil until a batch has had to wait
	armed  bool        // the timer will look at what is gathering
}

// batch is commands that run as one pipeline.
type batch struct {
	cmds  []redis.Cmder // nil: its caller has left before the take-off
	left  int           // of those
	off   bool          // it has taken off
	lead  chan struct{} // has the caller fly it that leads; nil: none can
	over  chan struct{} // closed when it is over
	since time.Time     // it is gathering, or under way

	panicked any         // what a flight has panicked with, once it is over
	raised   atomic.Bool // one of the callers has panicked with that
}

// Where a command may be but at a place in its batch.
const (
	leading = -1 - iota // in the batch, which its caller is to fly
	alone               // its caller has a flight of one command, to be ended by land
	refused             // nowhere
)

// board puts the command into the batch that is gathering, if all flights are under way.
func (l *line) board(cmd redis.Cmder, mayLeave bool) (b *batch, at int) {
	cfg := &l.chain.g.cfg
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flying < cfg.Flights && l.open == nil {
		b := &batch{cmds: append(borrow(), cmd)}
		if mayLeave {
			if !l.chain.g.begin() {
				return nil, refused
			}
			b.over = make(chan struct{})
		}
		l.takeOffLocked(b)
		return b, alone
	}
	if l.open == nil {
		if !l.chain.g.begin() {
			return nil, refused
		}
		l.open = &batch{cmds: borrow(), over: make(chan struct{}), since: time.Now()}
		l.watchLocked()
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

// takeOffLocked begins the flight of a batch that isn't gathering any more.
func (l *line) takeOffLocked(b *batch) {
	b.off, b.since = true, time.Now()
	l.flying++
	l.aloft += len(b.cmds) - b.left
}

// await waits until the batch is over. It fails if the context ends before.
func (l *line) await(ctx context.Context, b *batch, at int, effect command.Effect) error {
	select {
	case <-b.over:
		return nil
	case <-ctx.Done():
	}
	if l.leave(b, at) {
		return ctx.Err()
	}
	select {
	case <-b.over:
		return nil // both, and what came of it is known
	default:
	}
	if effect == command.Read {
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

// Flights that take longer than patience are more than the connection and the server
// need: they stand still, or the network is far away.
const (
	patience        = time.Millisecond
	patienceForEach = 4 * time.Microsecond // command that is under way
	mostPatience    = 8                    // times that patience doubles
)

// patienceLocked is how long a batch gathers at most: longer for each flight that is
// under way beyond those that should be, so that few are when all stand still.
func (l *line) patienceLocked() time.Duration {
	beyond := min(max(l.flying-l.chain.g.cfg.Flights, 0), mostPatience)
	return (patience + time.Duration(l.aloft)*patienceForEach) << beyond
}

// watchLocked has the batch that is gathering not wait for flights that stand still.
func (l *line) watchLocked() {
	switch {
	case l.armed:
	case l.timer == nil:
		l.timer = time.AfterFunc(l.patienceLocked(), l.hurry)
	default:
		l.timer.Reset(l.patienceLocked())
	}
	l.armed = true
}

// hurry has the batch that is gathering take off if it has waited for too long.
func (l *line) hurry() {
	if b := l.overdue(); b != nil {
		l.start(b)
	}
}

func (l *line) overdue() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.open
	if b == nil {
		l.armed = false
		return nil
	}
	if wait := l.patienceLocked() - time.Since(b.since); wait > 0 {
		l.timer.Reset(wait)
		return nil
	}
	l.armed = false
	return l.departLocked()
}

// departLocked has the batch that is gathering take off, if not all callers have left it.
func (l *line) departLocked() *batch {
	b := l.open
	if l.open = nil; b.left == len(b.cmds) {
		l.chain.g.end()
		return nil
	}
	l.takeOffLocked(b)
	return b
}

// land ends the flight of a batch, and begins the next one if any caller has boarded.
func (l *line) land(b *batch, n int) {
	if next := l.next(b, n); next != nil {
		l.start(next)
	}
}

// next has the batch that is gathering take off. That isn't for a flight that has stood
// still while others took its place.
func (l *line) next(landed *batch, n int) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := l.flying > l.chain.g.cfg.Flights && time.Since(landed.since) > patience+time.Duration(l.aloft)*patienceForEach
	l.flying--
	l.aloft -= n
	if l.open == nil || late {
		return nil
	}
	return l.departLocked()
}

// start has a batch that has taken off flown by the caller that leads, or on a goroutine
// of its own.
func (l *line) start(b *batch) {
	if b.lead != nil {
		b.lead <- struct{}{}
		return
	}
	go l.fly(b)
}

// fly runs the batch. If that panics, its commands have an error, and one of the callers
// that are still there panics: on a goroutine of the flight's own nobody could recover.
func (l *line) fly(b *batch) {
	cmds := b.cmds
	if b.left > 0 {
		cmds = slices.DeleteFunc(cmds, func(cmd redis.Cmder) bool { return cmd == nil })
	}
	finished := false
	defer func() {
		if !finished { // runtime.Goexit is no panic
			b.panicked = fmt.Sprintf("%v, under gathered commands\n%s", recover(), debug.Stack())
			if h, ok := cmds[0].(*head); ok {
				cmds[0] = h.Cmder
			}
			stamp(cmds, fmt.Errorf("everpool: a batch of %d commands has panicked", len(cmds)))
		}
		l.land(b, len(cmds))
		close(b.over)
		giveBack(b.cmds)
		l.chain.g.end()
	}()
	l.chain.g.batches.Add(1)
	l.chain.run(cmds)
	finished = true
}

// raise panics, for the first caller, with what the flight has panicked with.
func (b *batch) raise() {
	if b.panicked != nil && !b.raised.Swap(true) {
		panic(b.panicked)
	}
}

// run runs the commands as a pipeline that go-redis doesn't repeat. No result is read
// here: that of an AutoPipeline's command would have to be waited for, and only its caller
// gets on without.
func (c *chain) run(cmds []redis.Cmder) {
	first := &head{once: once{cmds[0]}}
	cmds[0] = first
	err := c.pipeline(context.Background(), cmds)
	cmds[0] = first.Cmder
	if err != nil && !first.told {
		stamp(cmds, err) // the server has refused the connection
	}
}

// once is a command that go-redis doesn't run again, nor what is in a pipeline with it.
type once struct{ redis.Cmder }

// NoRetry is true.
func (once) NoRetry() bool { return true }

// head is the first command of a batch.
type head struct {
	once
	told bool // how it ended, and all behind it will be
}

// SetErr notes that the command has ended.
func (h *head) SetErr(err error) {
	h.told = true
	h.Cmder.SetErr(err)
}

// stamp gives all commands the error.
func stamp(cmds []redis.Cmder, err error) {
	for _, cmd := range cmds {
		cmd.SetErr(err)
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
