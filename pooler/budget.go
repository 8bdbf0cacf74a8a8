package pooler

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds the connections of several pools together, those being dialed
// included, streams apart. Each pool may always have one, at once, so that no node waits
// for another's requests: there are more than the bound until another has given one
// back, and with more pools in use than the bound as many as pools. What is left goes to
// the pools whose requests wait: to those with the fewest connections, in the order in
// which they have begun to wait. When nothing is left one is taken back: from a pool that
// doesn't need it, the one that was idle for longest first, or else from one that has at
// least two more than the pool that asks. A pool keeps what it was given for a tenth of a
// second at least.
//
// Make one with [NewBudget], and give it to pools by [Node]; those that [New] makes keep
// to it. It is safe for concurrent use.
//
// Its invariants, under mu: total is the sum of the parts; a pool has at most as many
// connections as its part, or one, and one more if it has that still to give back.
type Budget struct {
	limit  int
	wanted atomic.Bool // a pool waits for more

	mu    sync.Mutex // may be taken under Pool.mu; under it no pool is called
	parts map[*Pool]*part
	total int
	wants []*Pool // in the order in which they have asked
	timer *time.Timer
	timed bool // it runs
}

// part is what a pool has of a budget.
type part struct {
	budget *Budget
	unused atomic.Int64 // since when, of the pool's time, one of it isn't needed; 0: all is

	// Guarded by Pool.mu.
	n     int  // connections that the pool may have; 0: it has none, and may have one
	asked bool // for one more
	owes  bool // one, as soon as it has closed it

	// Guarded by Budget.mu.
	booked   int
	recalled time.Time // when one was, that it has not given back yet; zero: none
	given    time.Time // when it last got more
}

// partTenure is how long a pool keeps what it was given, since each change costs a dial,
// and how long one has to give back what was recalled before another is asked.
const partTenure = 100 * time.Millisecond

// NewBudget returns a budget of so many connections. It fails if that is less than 1.
func NewBudget(limit int) (*Budget, error) {
	if limit < 1 {
		return nil, fmt.Errorf("%w: the budget is %d connections; allowed is 1 and more", ErrConfig, limit)
	}
	return &Budget{limit: limit, parts: make(map[*Pool]*part)}, nil
}

func (b *Budget) join(p *Pool) *part {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &part{budget: b}
	b.parts[p] = t
	return t
}

// leave takes back what a closed pool had.
func (b *Budget) leave(p *Pool) {
	b.mu.Lock()
	if t := b.parts[p]; t != nil {
		b.total -= t.booked
		delete(b.parts, p)
		b.wants = slices.DeleteFunc(b.wants, func(o *Pool) bool { return o == p })
	}
	b.settle()
}

// ask puts the pool in the line of those that want more.
func (b *Budget) ask(p *Pool) {
	b.mu.Lock()
	if b.parts[p] != nil {
		b.wants = append(b.wants, p)
	}
	b.settle()
}

// book takes note of connections that the pool has more, or fewer, what was recalled
// among them; 0: that can't be given back.
func (b *Budget) book(p *Pool, more int) {
	b.mu.Lock()
	if t := b.parts[p]; t != nil {
		t.booked += more
		b.total += more
		if more <= 0 {
			t.recalled = time.Time{}
		}
	}
	b.settle()
}

// hasFree reports whether there is something that no pool has.
func (b *Budget) hasFree() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total < b.limit
}

// look looks again who could give something.
func (b *Budget) look() {
	b.mu.Lock()
	b.settle()
}

// settle gives what there is to those who want it, and asks for what they lack. It is
// called with mu, and returns without: no lock of a pool is taken under it.
func (b *Budget) settle() {
	now := time.Now()
	var todo []func()
	for len(b.wants) > 0 && b.total < b.limit {
		i := b.nextLocked()
		p := b.wants[i]
		b.wants = slices.Delete(b.wants, i, i+1)
		t := b.parts[p]
		t.booked++
		t.given = now
		b.total++
		todo = append(todo, p.grant)
	}
	lacking := max(len(b.wants), b.total-b.limit)
	for _, t := range b.parts {
		if lacking > 0 && !t.recalled.IsZero() && now.Sub(t.recalled) < partTenure {
			lacking--
			b.lookAfterLocked(partTenure - now.Sub(t.recalled))
		}
	}
	for ; lacking > 0; lacking-- {
		p := b.donorLocked(now)
		if p == nil {
			break
		}
		b.parts[p].recalled = now
		b.lookAfterLocked(partTenure)
		todo = append(todo, p.recall)
	}
	b.wanted.Store(len(b.wants) > 0 || b.total > b.limit)
	b.mu.Unlock()
	for _, do := range todo {
		do()
	}
}

// nextLocked returns which of those in line comes next: of those with the fewest
// connections the one that has asked first.
func (b *Budget) nextLocked() int {
	next := 0
	for i, p := range b.wants {
		if b.parts[p].booked < b.parts[b.wants[next]].booked {
			next = i
		}
	}
	return next
}

// donorLocked returns the pool that can best do without one of its connections, if
// there is one.
func (b *Budget) donorLocked(now time.Time) *Pool {
	var next *Pool
	least := 0 // with more pools than there are connections
	if len(b.wants) > 0 {
		next = b.wants[b.nextLocked()]
		least = b.parts[next].booked
	}
	var best *Pool
	var since int64
	for p, t := range b.parts {
		unused := t.unused.Load()
		switch {
		case !t.recalled.IsZero(), p == next:
			continue
		case unused == 0 && t.booked <= least+1:
			continue
		}
		if left := partTenure - now.Sub(t.given); left > 0 {
			b.lookAfterLocked(left)
			continue
		}
		switch {
		case best == nil, unused != 0 && (since == 0 || unused < since),
			unused == 0 && since == 0 && t.booked > b.parts[best].booked:
			best, since = p, unused
		}
	}
	return best
}

// lookAfterLocked has it looked again after that time, if not before.
func (b *Budget) lookAfterLocked(d time.Duration) {
	if b.timer == nil {
		b.timer = time.AfterFunc(d, b.timely)
	} else if !b.timed {
		b.timer.Reset(d)
	}
	b.timed = true
}

func (b *Budget) timely() {
	b.mu.Lock()
	b.timed = false
	b.settle()
}

// grant lets the pool have one connection more.
func (p *Pool) grant() {
	p.mu.Lock()
	p.part.n++
	p.part.asked = false
	p.later.grow = true
	p.unlock()
}

// recall has the pool give one connection back: one that is idle, or the next that is.
// One of several lanes is left for it.
func (p *Pool) recall() {
	p.mu.Lock()
	if p.part.n < 2 { // it has given back what it didn't need meanwhile
		p.unlock()
		p.part.budget.book(p, 0)
		return
	}
	p.part.n--
	p.part.owes = true
	if p.countedLocked() > p.part.n && !p.evictLocked(nil) {
		if least := p.leastLaneLocked(); least != nil && p.conns.lanes-p.conns.yielding > 1 {
			p.retireLocked(least)
		}
	}
	p.unlock()
}

// maxLocked is how many connections the pool may have now, those included that are opened
// for streams.
func (p *Pool) maxLocked() int { return p.boundLocked() + p.queue.streams }

// boundLocked is how many connections the pool may have now, streams apart.
func (p *Pool) boundLocked() int {
	if p.part == nil {
		return p.cfg.MaxOpenConns
	}
	return min(p.cfg.MaxOpenConns, max(p.part.n, 1))
}

// settlePartLocked tells the budget what the pool lacks, owes, and could do without.
func (p *Pool) settlePartLocked() {
	t := p.part
	if t == nil || p.closed {
		return
	}
	counted := p.countedLocked()
	switch {
	case t.n == 0 && counted > 0:
		t.n = 1
		p.later.work = append(p.later.work, func() { t.budget.book(p, 1) })
	case t.n > 0 && counted == 0 && p.queue.waiting == 0:
		all := t.n
		if t.owes {
			all++
		}
		t.n, t.owes = 0, false
		p.later.work = append(p.later.work, func() { t.budget.book(p, -all) })
	case t.owes && counted <= t.n:
		t.owes = false
		p.later.work = append(p.later.work, func() { t.budget.book(p, -1) })
	case !t.asked && counted >= t.n && t.n < p.cfg.MaxOpenConns && p.health.state == StateUp && p.wantsMoreLocked():
		t.asked = true
		p.later.work = append(p.later.work, func() { t.budget.ask(p) })
	}
	unused := p.unusedLocked(counted)
	if t.unused.Swap(unused) == 0 && unused != 0 && t.budget.wanted.Load() {
		p.later.work = append(p.later.work, t.budget.look)
	}
}

// wantsMoreLocked reports whether another connection would serve a request, or would be
// kept for one that may come (MinIdleConns), which takes nothing from others.
func (p *Pool) wantsMoreLocked() bool {
	l := p.neediestLocked()
	return l != nil && (l.needs() > l.dialing || p.part.budget.hasFree())
}

// unusedLocked is since when the pool could do without one of its connections: 1 if it
// has fewer than it may have, 0 if it needs all.
func (p *Pool) unusedLocked(counted int) int64 {
	switch {
	case p.queue.waiting > 0 || p.part.n < 2:
		return 0
	case counted < p.part.n:
		return 1
	case p.conns.idle == 0:
		return 0
	}
	return max(p.start.UnixNano()+int64(p.oldestIdleLocked(nil).idle[0].idleSince), 2)
}
