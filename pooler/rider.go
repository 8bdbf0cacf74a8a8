package pooler

import (
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"time"
)

// ErrLost is returned by [Rider.Receive] when the shared connection has died with
// the rider's requests on it. [Rider.Lost] says more.
var ErrLost = errors.New("everpool: the shared connection was lost")

var errNothing = errors.New("everpool: nothing to receive")

// errAboard: the rider is owed replies by another lane.
var errAboard = errors.New("everpool: the rider is on another shared connection")

// Rider is one caller's place on shared connections: what it has submitted there
// and not received yet. Its replies come in the order of its requests, since it
// stays on one connection while any is to come.
//
// A request begins when it is submitted, or waits for that, and is over when its last
// reply was received, when it can't be sent in time, or with Forgive or Close: those who
// are done with a rider close it. It may be several exchanges, on several connections.
//
// Submit and Receive may run on two goroutines, one each; the other methods may
// be called from any. Make one with [NewRider].
type Rider struct {
	wake chan struct{} // capacity 1: one token for each time that it is woken

	ticket      uint32   // chooses among lanes; the submitter's
	others      int      // exchanges under way that it meets, in eighths, with a decay; the submitter's
	known       features // of the request that was refused as large; the submitter's
	mu          sync.Mutex
	lane        *lane // of the last exchange
	state       riderState
	receiving   bool // Receive is under way
	closed      bool
	own         bool     // nobody's request: the lane's last PING
	away        bool     // in Submit, with replies to come
	entering    *entrant // in Submit, waits for room
	interrupted bool
	expired     bool
	by          time.Duration // when Receive gives up, since Pool.start; 0: never
	trip        trip
	p           []byte // where Receive wants the replies
	got         int    // of p
	stash       stash
	counted     *tally // counts the request that isn't over, nil: there is none
}

// trip is what a rider has under way on one lane, from when no reply was owed.
type trip struct {
	owed   int   // replies to come
	again  bool  // all of it may be sent again
	slow   bool  // some of it may take long
	began  bool  // some of the replies has come
	spills bool  // the rider has let others wait for it
	mark   int64 // outbox.appended after its first command
	lost   error // the connection died
	ran    bool  // the server may have run some of it
}

// riderState is what a rider's caller is doing.
type riderState uint8

const (
	riderRunning riderState = iota
	riderParked             // in Receive, waits to be woken
	riderLeading            // in Receive, reads for everybody
)

// NewRider returns a rider with nothing under way.
func NewRider() *Rider { return &Rider{wake: make(chan struct{}, 1)} }

// Conn is the shared connection of the last request, nil before the first.
func (r *Rider) Conn() *Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lane == nil {
		return nil
	}
	return r.lane.conn
}

// Idle reports whether nothing is under way: no reply is owed, none is held, and
// nothing was lost.
func (r *Rider) Idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.idleLocked() && !r.closed
}

// Lost returns whether the server may have run any of what was under way, and why
// the connection was lost with it. nil: it wasn't lost.
func (r *Rider) Lost() (ran bool, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trip.ran, r.trip.lost
}

// Forgive ends a request that was lost, so that the rider can be used for another.
// One that shall go on is not forgiven; see [Lanes.Again].
func (r *Rider) Forgive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trip.lost != nil || r.idleLocked() {
		r.concludeLocked(Failed)
		r.forgetLocked()
	}
}

// goOn forgets a loss, and leaves the request open.
func (r *Rider) goOn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked()
}

func (r *Rider) forgetLocked() {
	r.trip.lost, r.trip.ran = nil, false
	r.stash.drop()
}

// idleLocked reports whether no reply is owed, none is held, and nothing was lost.
func (r *Rider) idleLocked() bool {
	return r.trip.owed == 0 && r.stash.len() == 0 && r.trip.lost == nil
}

// Receive copies bytes of the replies into p as they come: at least one, and
// possibly several replies; done says that no more are to come. It blocks until
// the deadline (zero: for ever) at most, and fails with os.ErrDeadlineExceeded,
// ErrInterrupted, ErrLost, or net.ErrClosed. After the first two it may be called
// again. If p is empty, or there is nothing to receive and none is owed, it fails at
// once, with an error that is none of these.
func (r *Rider) Receive(p []byte, deadline time.Time) (n int, done bool, err error) {
	r.mu.Lock()
	l := r.lane
	if l == nil || len(p) == 0 {
		r.mu.Unlock()
		return 0, false, errNothing
	}
	by := l.pool.since(deadline)
	r.receiving, r.expired, r.got = true, false, 0
	for {
		if n, err := r.outcomeLocked(p); n > 0 || err != nil {
			r.receiving, r.p, r.state = false, nil, riderRunning
			closed, done := r.closed, !r.closed && r.idleLocked()
			if done && err == nil {
				r.concludeLocked(Answered)
			}
			r.mu.Unlock()
			if err != nil || closed || l.conn.Err() != nil {
				l.stepDown(r) // if it was to be the next leader
			}
			return n, done, err
		}
		r.p, r.by = p, by
		leads := r.takeLeadLocked(l)
		if !leads {
			r.state = riderParked
			l.parked.Add(1)
		}
		r.mu.Unlock()
		l.watch.by(l, by)
		switch {
		case leads:
			l.lead(r)
		case l.leader.CompareAndSwap(nil, r) || l.leader.Load() == r: // the last one has gone before this one was parked
			l.succeed(r)
		default:
			<-r.wake
		}
		r.mu.Lock()
	}
}

// mayBoardLocked returns why the rider can't get on the lane, or nil.
func (r *Rider) mayBoardLocked(l *lane) error {
	switch {
	case r.trip.lost != nil:
		return ErrLost // its caller has to know first
	case r.closed:
		return net.ErrClosed
	case r.trip.owed > 0 && r.lane != l:
		return errAboard // its replies could overtake those
	}
	return nil
}

// takeLeadLocked makes the rider the one that reads for everybody, if nobody does.
func (r *Rider) takeLeadLocked(l *lane) bool {
	if !l.leader.CompareAndSwap(nil, r) && l.leader.Load() != r {
		return false
	}
	r.state = riderLeading
	return true
}

// toTheLead makes a parked rider one that leads.
func (r *Rider) toTheLead() {
	r.mu.Lock()
	if !r.unparkLocked() {
		<-r.wake // another one was faster
	}
	r.state = riderLeading
	r.mu.Unlock()
}

// outcomeLocked is what Receive returns, or neither if it has to wait.
func (r *Rider) outcomeLocked(p []byte) (int, error) {
	switch {
	case r.got > 0:
		return r.got, nil
	case r.stash.len() > 0:
		return r.stash.take(p), nil
	case r.closed:
		return 0, net.ErrClosed
	case r.trip.lost != nil:
		return 0, ErrLost
	case r.trip.owed == 0:
		return 0, errNothing
	case r.interrupted:
		r.interrupted = false
		return 0, ErrInterrupted
	case r.expired:
		return 0, os.ErrDeadlineExceeded
	}
	return 0, nil
}

// IsAnswered reports whether replies come on the shared connection of the last request, the
// rider's own among them or not: something was heard there within d, or since the last look
// for silence, of which there is one each 25 ms. It is false where nobody looks (SilenceAfter
// is -1), and where the connection was given up as silent. It doesn't block.
func (r *Rider) IsAnswered(d time.Duration) bool {
	r.mu.Lock()
	l := r.lane
	r.mu.Unlock()
	if l == nil || l.pool.cfg.SilenceAfter == 0 || l.deserted.Load() {
		return false
	}
	owes, since := l.silence()
	return !owes || l.pool.now()-since < d
}

// Interrupt makes the Receive that is under way, or the next one, return
// ErrInterrupted if it would have to wait.
func (r *Rider) Interrupt() {
	r.mu.Lock()
	r.interrupted = true
	r.stirLocked()
	r.mu.Unlock()
}

// Close says that the rider's caller has left. Replies that are still to come
// keep their place; they are read and dropped. A Submit that waits for room, and a
// Receive, fail with net.ErrClosed. Close doesn't block, and may be called again.
func (r *Rider) Close() {
	r.mu.Lock()
	if !r.closed && r.trip.owed > 0 {
		r.lane.forsaken.Add(int64(r.trip.owed))
	}
	if r.closed = true; r.trip.lost != nil {
		r.concludeLocked(Failed)
	} else {
		r.concludeLocked(Abandoned)
	}
	r.stash.drop()
	r.stirLocked()
	if r.entering != nil {
		r.entering.call()
	}
	l, absent := r.lane, !r.receiving
	r.mu.Unlock()
	if l != nil && absent {
		l.stepDown(r) // it would never come to lead
	}
}

// stirLocked has a wait end, or a leader look up.
func (r *Rider) stirLocked() {
	switch r.state {
	case riderParked:
		r.wakeLocked()
	case riderLeading:
		r.lane.conn.InterruptReceive()
	}
}

// wakeLocked wakes the rider if it is parked.
func (r *Rider) wakeLocked() {
	if r.unparkLocked() {
		r.wake <- struct{}{}
	}
}

// unparkLocked makes a parked rider one that runs. It reports false if it wasn't
// parked. Who unparks another one wakes it too.
func (r *Rider) unparkLocked() bool {
	if r.state != riderParked {
		return false
	}
	r.lane.parked.Add(-1)
	r.state = riderRunning
	return true
}

// enter notes that the rider waits for room, or with nil that it doesn't any
// more. It reports whether its caller has left.
func (r *Rider) enter(e *entrant) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entering = e
	return r.closed
}

// goAway notes that the rider's caller is in Submit with replies to come. If it was
// to be the next leader of the lane, and nobody receives, it is so no more, and
// goAway reports true.
func (r *Rider) goAway(l *lane) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = true
	return !r.receiving && l.leader.CompareAndSwap(r, nil)
}

// comeBack takes goAway back.
func (r *Rider) comeBack() {
	r.mu.Lock()
	r.away = false
	r.mu.Unlock()
}

// maxHeldLocked is how many bytes may be kept. A rider that still submits can't take
// what comes; it is owed what it has asked for itself.
func (r *Rider) maxHeldLocked() int {
	switch {
	case r.away && !r.receiving:
		return math.MaxInt
	case r.trip.spills:
		return maxSpill
	}
	return maxHeld
}

func (r *Rider) setState(s riderState) {
	r.mu.Lock()
	r.state = s
	r.mu.Unlock()
}

// hasEnough ends the term of a rider that leads, if it has something to return.
func (r *Rider) hasEnough() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.got == 0 && r.stash.len() == 0 && !r.closed && r.trip.lost == nil && r.trip.owed > 0 && !r.interrupted && !r.expired {
		return false
	}
	r.state = riderRunning
	return true
}

// left reports whether the caller has left.
func (r *Rider) left() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// lose tells the rider that its connection has died; issued says how much may
// have been written. That the connection is lost doesn't end the request: its
// caller may have it go on. Nobody is told whose caller has left, or who was told for
// another slot, and may be about to go on elsewhere.
func (r *Rider) lose(l *lane, s *slot, cause error, issued int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.trip.owed == 0 || r.lane != l || s.rider.Load() != r {
		return
	}
	r.trip.lost, r.trip.ran, r.trip.owed = cause, r.trip.ran || issued >= r.trip.mark, 0
	r.wakeLocked()
}

// resign takes the lead from a rider that was to be the next leader and has not
// come yet. It reports false if it leads.
func (r *Rider) resign(l *lane) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.receiving {
		return false
	}
	l.leader.CompareAndSwap(r, nil)
	return true
}

// dueLocked reports whether the time of a waiting rider is over, and notes it.
func (r *Rider) dueLocked(now time.Duration) bool {
	if r.state == riderRunning || r.by == 0 || r.by > now {
		return false
	}
	r.expired = true
	r.stirLocked()
	return true
}
