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
	pace   pace

	replies replies
}

// batch is commands that run as one pipeline.
type batch struct {
	cmds  []redis.Cmder // nil: its caller has left before the take-off
	left  int           // of those
	off   bool          // it has taken off
	full  bool          // it has taken off since it was full
	over  chan struct{} // closed when it is over
	since time.Time     // it is gathering, or under way
	sent  bool          // something of it may have been written, once it is over

	ctx context.Context // with which it runs

	panicked any         // what a flight has panicked with, once it is over
	raised   atomic.Bool // one of the callers has panicked with that
}

// inFlight marks the context of a batch, which says what its first caller's does, without its
// end: hooks and OnConnect see it where the batch's connection is made, as the stock client
// shows them its caller's. What they ask of the client meanwhile isn't gathered: it would be
// behind the batch that waits for them.
type inFlight struct{}

// Where a command may be but at a place in its batch.
const (
	alone   = -1 - iota // its caller has a flight of one command, to be ended by land
	refused             // nowhere
)

// board puts the command into the batch that is gathering, if all flights are under way.
func (l *line) board(ctx context.Context, cmd redis.Cmder, mayLeave bool) (b *batch, at int) {
	cfg := &l.chain.g.cfg
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.open == nil
	if first {
		straight := l.flying < cfg.Flights
		if straight && !mayLeave {
			b = &batch{}
			l.takeOffLocked(b, 1)
			return b, alone
		}
		if !l.chain.g.begin() {
			return nil, refused
		}
		l.open = &batch{cmds: borrow(), over: make(chan struct{}), since: time.Now(), ctx: context.WithValue(context.WithoutCancel(ctx), inFlight{}, true)}
		switch {
		case straight:
		case l.pace.far && l.flying < mostFar:
			go l.company(l.open)
		default:
			l.watchLocked()
		}
	}
	b = l.open
	b.cmds = append(b.cmds, cmd)
	if b.full = len(b.cmds) >= cfg.Largest || l.replies.fill(len(b.cmds)); b.full || l.flying < cfg.Flights {
		go l.fly(l.departLocked())
	}
	return b, len(b.cmds) - 1
}

// takeOffLocked begins the flight of so many commands, which gather no more.
func (l *line) takeOffLocked(b *batch, n int) {
	b.off, b.since = true, time.Now()
	l.flying++
	l.aloft += n
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
func (l *line) hurry() { l.fly(l.overdue()) }

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
	l.takeOffLocked(b, len(b.cmds)-b.left)
	return b
}

// mostYields is how often a flight lets others run before the next one takes off.
const mostYields = 8

// linger lets the callers of a flight that is over come back before it lands: those that
// call again in a loop are in one batch then, not in several. It doesn't wait for any.
func (l *line) linger(n int) {
	for i, came, was := 0, 0, -1; i < mostYields && came < n && came > was; i++ {
		if !l.chain.g.yields.Yield(l.waiting) {
			return
		}
		came, was = l.waiting(), came
	}
}

// company has the batch take off as soon as no more callers come along that could run by now.
func (l *line) company(b *batch) {
	l.linger(l.chain.g.cfg.Largest)
	l.fly(l.departing(b))
}

// departing has the batch take off, if it still gathers.
func (l *line) departing(b *batch) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != b {
		return nil
	}
	return l.departLocked()
}

// waiting is how many commands gather.
func (l *line) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		return 0
	}
	return len(l.open.cmds)
}

// land ends the flight of a batch of n commands, and begins the next one if any caller has
// boarded. That isn't for a flight that has stood still while others took its place, but on
// the way to a server that is far, or that took off beside others since it was full.
func (l *line) land(b *batch, n int) (next *batch) {
	l.chain.yield.landed(n, l.chain.g.cfg.Worth)
	l.mu.Lock()
	defer l.mu.Unlock()
	took, aloft := time.Since(b.since), time.Duration(l.aloft)
	l.pace.note(took - aloft*workForEach)
	late := took > patience+aloft*patienceForEach && !l.pace.far
	l.flying--
	l.aloft -= n
	if l.open == nil || l.flying >= l.chain.g.cfg.Flights && (late || b.full) {
		return nil
	}
	return l.departLocked()
}

// landAlone ends the flight of a command that its caller has run alone.
func (l *line) landAlone(b *batch) {
	if next := l.land(b, 1); next != nil {
		go l.fly(next)
	}
}

// fly runs a batch that has taken off, and those that take off when it lands.
func (l *line) fly(b *batch) {
	for b != nil {
		b = l.flight(b)
	}
}

// flight runs one batch. If that panics, its commands have an error, and one of the
// callers that are still there panics: on this goroutine nobody could recover.
func (l *line) flight(b *batch) (next *batch) {
	cmds := b.cmds
	if b.left > 0 {
		cmds = slices.DeleteFunc(cmds, func(cmd redis.Cmder) bool { return cmd == nil })
	}
	n := len(cmds)
	finished := false
	defer func() {
		if !finished { // runtime.Goexit is no panic
			b.panicked = fmt.Sprintf("%v, under gathered commands\n%s", recover(), debug.Stack())
			if h, ok := cmds[0].(*head); ok {
				cmds[0] = h.Cmder
			}
			stamp(cmds, fmt.Errorf("everpool: a batch of %d commands has panicked", n))
		}
		close(b.over)
		giveBack(b.cmds)
		if finished {
			l.linger(n)
		}
		if next = l.land(b, n); !finished {
			go l.fly(next)
			next = nil
		}
		l.chain.g.end()
	}()
	l.chain.g.batches.Add(1)
	l.chain.g.n[Gathered].Add(int64(n))
	b.sent = true // for a panic
	b.sent = l.chain.run(b.ctx, cmds)
	finished = true
	return nil
}

// raise panics, for the first caller, with what the flight has panicked with.
func (b *batch) raise() {
	if b.panicked != nil && !b.raised.Swap(true) {
		panic(b.panicked)
	}
}

// run runs the commands as a pipeline that go-redis doesn't repeat. No result is read
// here: that of an AutoPipeline's command would have to be waited for, and only its caller
// gets on without. It reports whether anything was written.
func (c *chain) run(ctx context.Context, cmds []redis.Cmder) (sent bool) {
	first := &head{once: once{cmds[0]}}
	cmds[0] = first
	err := c.pipeline(ctx, cmds)
	cmds[0] = first.Cmder
	if err != nil && !first.told {
		stamp(cmds, err) // the server has refused the connection
	}
	return first.written
}

// once is a command that go-redis doesn't run again, nor what is in a pipeline with it.
type once struct{ redis.Cmder }

// NoRetry is true.
func (once) NoRetry() bool { return true }

// head is the first command of a batch.
type head struct {
	once
	told    bool // how it ended, and all behind it will be
	written bool // go-redis has begun to write it
}

// Args is asked for when the command is written.
func (h *head) Args() []any {
	h.written = true
	return h.once.Args()
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
