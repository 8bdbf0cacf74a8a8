package pooler

import (
	"errors"
	"time"
)

// A reply holds a lane up if it is large and its caller has left, or if its caller is
// there and doesn't take it. The callers behind it have done nothing to deserve that:
// they are let go, as far as their requests may be sent again, and the lane takes
// nothing more.

const (
	// maxForsaken is how many replies a lane may owe to callers that have left. What
	// would come behind more of them stays unsent, where its own caller can still
	// withdraw it: a server that stood still would have to run all of it first.
	maxForsaken = 64

	// maxSpill is how many bytes are kept for a rider that doesn't receive them while
	// others wait behind it.
	maxSpill = 1 << 20

	// patience is how long the rider that is to read its own reply may be elsewhere
	// while others wait behind it.
	patience = 100 * time.Millisecond
)

var (
	errForsaken = errors.New("everpool: the connection is held up by a large reply whose caller has left")
	errUntaken  = errors.New("everpool: the connection is held up by a reply that its caller doesn't take")
)

// letGo gives a lane up that is held up at the slot at; then is done after that.
func (p *Pool) letGo(l *lane, at uint64, cause error, then func()) {
	p.mu.Lock()
	defer p.unlock()
	if p.closed || l.conn.lane != l || l.deserted.Load() || l.head.Load() != at {
		return
	}
	p.giveUpLocked(l, cause)
	p.later.work = append(p.later.work, then)
}

// endForsaken ends the lane if nobody is left on it: a new connection costs less than
// to read the rest.
func (l *lane) endForsaken() {
	if l.live() == 0 {
		l.conn.Fail(CloseAbandoned, errForsaken)
		l.die()
	}
}

// leaveTo leaves the connection to the caller of the reply at the slot at, if it
// hasn't taken it after HealthCheckTimeout: the callers behind it are told that nobody
// knows.
func (l *lane) leaveTo(at uint64) {
	t := time.NewTimer(l.pool.cfg.HealthCheckTimeout)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.pool.ctx.Done():
		return
	}
	if l.head.Load() == at {
		l.part(at+1, errUntaken, func(r *Rider) bool { return !r.own })
	}
}

// part has the riders leave that have slots from the slot from on, without their
// replies, if they are to go. The server may run what they have asked for yet.
func (l *lane) part(from uint64, cause error, goes func(*Rider) bool) {
	slots := make(map[*Rider][]*slot)
	var riders []*Rider
	for i, tail := max(from, l.head.Load()), l.tail.Load(); i < tail; i++ {
		s := &l.slots[i%maxExchanges]
		r := s.rider.Load()
		if r == nil {
			continue
		}
		if slots[r] == nil {
			riders = append(riders, r)
		}
		slots[r] = append(slots[r], s)
	}
	for _, r := range riders {
		r.part(l, slots[r], cause, goes)
	}
}

// part takes the rider out of its slots on the lane, if it is to go.
func (r *Rider) part(l *lane, slots []*slot, cause error, goes func(*Rider) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	owed := 0
	for _, s := range slots {
		if s.rider.Load() != r {
			return // its replies are coming in
		}
		owed += int(s.n)
	}
	if r.closed || r.lane != l || r.trip.owed != owed || !goes(r) {
		return
	}
	for _, s := range slots {
		s.rider.Store(&ghost)
	}
	r.trip.lost, r.trip.ran, r.trip.owed = cause, true, 0
	r.stirLocked()
}

// untaken looks whether the rider that is to read its own reply is elsewhere. First
// more is kept for it, by the one that attends to the lane; when that isn't enough
// the others are let go.
func (l *lane) untaken() {
	at := l.head.Load()
	r := l.leader.Load()
	if r == nil || l.inFlight() == 0 || l.slots[at%maxExchanges].rider.Load() != r {
		return
	}
	r.mu.Lock()
	absent := !r.receiving && !r.closed && r.lane == l
	full := r.stash.len() >= maxSpill
	if absent && !full {
		r.trip.spills = true
		l.leader.CompareAndSwap(r, nil)
	}
	r.mu.Unlock()
	switch {
	case !absent:
	case full:
		l.pool.letGo(l, at, errUntaken, func() { l.pool.wg.Go(func() { l.leaveTo(at) }) })
	default:
		l.handOn()
	}
}
