package pooler

import (
	"sync"
	"time"
)

// waiter is a request that waits for a connection. It is woken exactly once,
// alone, with a connection or an error. Until then all but ready is guarded by
// Pool.mu.
type waiter struct {
	ready chan struct{} // capacity 1

	granted
	err      error
	done     bool // woken: conn or err is set
	since    time.Duration
	waited   time.Duration // until it was woken
	until    time.Duration // when it gives up, or looks whether to, 0: never
	ends     time.Duration // when it gives up in any case, 0: never
	patience time.Duration // how long it waits where the pool is full, 0: until is in any case
	seq      uint64        // order of arrival
	session  *Session
	name     string // what for, see Request
	blocking bool
	stream   bool
	final    bool // it is of no use later than ends, reply included
	place    Place
	account  account // where its end is counted, nil: among the leases
	rider    *Rider  // that it is for, or nil

	in         *waiterList
	prev, next *waiter

	overtaken int // how often a later one of another session, or one that doesn't block, went first
}

// queue is what the pool knows of all its waiters together: each of them is on a list of
// its lot, or of the connection that alone can serve it. Guarded by Pool.mu.
type queue struct {
	seq     uint64
	waiting int
	streams int   // of waiting: requests for such
	expiry  alarm // wakes those whose time is over
	paces   paces
	spare   sync.Pool // of *waiter; of the pool, since a waiter has a channel
}

// take returns a waiter that comes after all others.
func (q *queue) take() *waiter {
	w, _ := q.spare.Get().(*waiter)
	if w == nil {
		w = &waiter{ready: make(chan struct{}, 1)}
	}
	q.seq++
	w.seq = q.seq
	return w
}

// free takes back a waiter that was woken. It may be called without the lock.
func (q *queue) free(w *waiter) {
	*w = waiter{ready: w.ready}
	q.spare.Put(w)
}

// granted is what a waiter was given: a connection, or those to share.
type granted struct {
	conn   *Conn
	shared *Lanes
}

// waitOn has it wait for so much longer, within its bounds.
func (w *waiter) waitOn(now, limit time.Duration) {
	if w.until = now + limit; w.ends != 0 {
		w.until = min(w.until, w.ends)
	}
}

// wake hands over what was waited for. The waiter must have left its list.
func (w *waiter) wake(c *Conn, err error) {
	w.conn, w.err, w.done = c, err, true
	w.ready <- struct{}{}
}

// comesLast reports whether w lets those go first who don't block, which it does until that has
// happened too often: a command that blocks keeps what it gets for long, and any number of them
// must not hold up the others, of whom a single connection serves all who share. Where nothing
// is shared all go in their order, as they do in the stock pool.
func (w *waiter) comesLast() bool { return w.in.yields && w.overtaken <= maxOvertaken }

// precedes reports whether w is served before o. Of none both may be nil.
func (w *waiter) precedes(o *waiter) bool {
	switch {
	case w == nil || o == nil:
		return w != nil
	case w.comesLast() != o.comesLast():
		return o.comesLast()
	}
	return w.seq < o.seq
}

// overtake notes that w is served, which may have come later than a command that blocks.
func (l *lot) overtake(w *waiter) {
	if b := l.blocks.head; b != nil && b.seq < w.seq {
		b.overtaken++
	}
}

// firstStream returns who has waited longest of those who are to have a stream, or nil.
func (l *waiterList) firstStream() *waiter {
	w := l.head
	for w != nil && !w.stream {
		w = w.next
	}
	return w
}

// waiterList is a FIFO of waiters from whose middle one can leave.
type waiterList struct {
	head, tail *waiter
	n          int
	yields     bool // those on it let others go first
}

func (l *waiterList) push(w *waiter) {
	w.in, w.prev, w.next = l, l.tail, nil
	if l.tail == nil {
		l.head = w
	} else {
		l.tail.next = w
	}
	l.tail = w
	l.n++
}

func (l *waiterList) remove(w *waiter) {
	if w.prev == nil {
		l.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.in, w.prev, w.next = nil, nil, nil
	l.n--
}
