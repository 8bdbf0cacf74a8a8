package pooler

import (
	"sync"
	"sync/atomic"
)

// books count the requests for shared connections. They are the pool's, since a
// request outlives a lane: what it is counted by knows nothing of lanes. There are
// several, of which each caller uses one, so that many callers don't all write to the
// same memory.
type books [16]tally

// rides are the requests for shared connections: all, and those that were lost.
type rides struct {
	books                  books
	moved, resent, unknown atomic.Int64
}

// tally counts the requests of some riders. Each is begun once and over once, and
// what was counted is never taken back.
type tally struct {
	begun, over atomic.Int64

	mu                sync.Mutex // taken under all others; held while a request ends otherwise than answered
	failed, abandoned int64      // of over

	_ [24]byte // a cache line for each
}

// count is what books say at a moment.
type count struct{ begun, over, failed, abandoned int64 }

// read adds up what was counted. Each request is seen at one moment, and so is each
// caller: one after another, its requests are never two that are under way.
func (b *books) read() (n count) {
	for i := range b {
		b[i].addTo(&n)
	}
	return n
}

func (t *tally) addTo(n *count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	begun, over := atOneMoment(t.begun.Load, t.over.Load)
	n.begun += begun
	n.over += over
	n.failed += t.failed
	n.abandoned += t.abandoned
}

// atOneMoment reads what has begun and what was over just then. What ends and begins
// between two looks would be under way twice.
func atOneMoment(begun, over func() int64) (b, o int64) {
	o = over()
	for {
		b = begun()
		now := over()
		if now == o {
			return b, o
		}
		o = now
	}
}

// end counts the end of a request.
func (t *tally) end(o Outcome) {
	if o == Answered {
		t.over.Add(1)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over.Add(1)
	if o == Abandoned {
		t.abandoned++
	} else {
		t.failed++
	}
}

// admitLocked counts the rider's request, unless it is counted already, as one is
// that has waited, is sent again, or goes on. Nothing of a caller that has left is a
// request. It is called by the submitter.
func (r *Rider) admitLocked(p *Pool) {
	if r.counted == nil && !r.closed && !r.own {
		r.counted = &p.rides.books[r.ticket%uint32(len(p.rides.books))]
		r.counted.begun.Add(1)
	}
}

// concludeLocked counts the end of the rider's request, if there is one.
func (r *Rider) concludeLocked(o Outcome) {
	if r.counted != nil {
		r.counted.end(o)
		r.counted = nil
	}
}

// admit counts a request that begins with waiting.
func (r *Rider) admit(p *Pool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.admitLocked(p)
}

// unsent counts a request that could not be submitted in time. One that has sent
// something before ends with that.
func (r *Rider) unsent(p *Pool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.idleLocked() {
		r.admitLocked(p)
		r.concludeLocked(Failed)
	}
}

// account is where the end of a request is counted.
type account interface{ conclude(p *Pool, o Outcome) }

// handOver returns the account of the request that the rider has begun, which ends
// elsewhere then, or nil.
func (r *Rider) handOver() account {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.counted
	if r.counted = nil; t == nil {
		return nil
	}
	return t
}

func (t *tally) conclude(_ *Pool, o Outcome) { t.end(o) }

// conclude counts a request that ends before it has got on a lane.
func (r *Rider) conclude(p *Pool, o Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.admitLocked(p)
	r.concludeLocked(o)
}
