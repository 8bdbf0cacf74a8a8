package pooler

import (
	"context"
	"errors"
	"math"
	"net"
	"os"
	"time"

	"github.com/everpool/everpool/internal/lent"
)

// submit appends the exchange to the lane and writes it, unless somebody else
// does. It reports false if the lane takes nothing more, and blocks while it has
// no room, and while it writes.
func (l *lane) submit(r *Rider, x *Exchange) (bool, error) {
	if x.Follows {
		defer r.comeBack()
		if r.goAway(l) {
			l.handOn() // it won't come to lead before this is over
		}
	}
	l.mu.Lock()
	idle := l.inFlight() == 0 && !l.outbox.writing
	if idle && !l.closed && !l.isReadyLocked(r) {
		l.mu.Unlock()
		l.die()
		return false, nil
	}
	for came := true; !l.closed && (came && l.room.any() || l.crowdedLocked(len(x.Request))); came = false {
		if err := l.awaitRoomLocked(r, x); err != nil {
			l.mu.Unlock()
			return false, err
		}
		idle = false
	}
	if l.closed {
		l.mu.Unlock()
		return false, nil
	}
	if !l.outbox.writing && l.lateLocked(x) {
		l.admitLocked() // in its place
		l.mu.Unlock()
		r.unsent(l.pool)
		return false, os.ErrDeadlineExceeded // it would be cut short in the middle
	}
	if err := l.boardLocked(r, x); err != nil {
		l.admitLocked() // in its place
		l.mu.Unlock()
		return false, err
	}
	if l.room.any() {
		l.admitLocked()
	}
	company := l.company.Load()
	alone := idle && company <= 1 && (len(x.Request) <= aloneUpTo || len(x.Request) <= atOnceUpTo && l.conn.socket.bare != nil)
	if !alone {
		l.outbox.add(x.Request)
	}
	if l.outbox.writing {
		l.mu.Unlock()
		return true, nil
	}
	l.outbox.writing = true
	if len(l.outbox.b) > aloneUpTo {
		l.mu.Unlock()
		l.pool.wg.Go(l.flush)
		return true, nil
	}
	by := x.due(l.pool)
	l.writeBy = by
	gathered := len(l.outbox.b)
	if alone {
		l.outbox.issued = l.outbox.appended
	}
	l.mu.Unlock()
	l.watch.by(l, by)
	rounds := writerRounds
	if alone {
		if len(x.Request) > aloneUpTo {
			rounds = 0 // it may have filled the socket
		}
		if !l.writeAlone(x.Request) {
			l.pool.wg.Go(l.flush)
			return true, nil
		}
	} else if company >= int64(x.Replies) {
		l.awaitCompany(gathered) // what is larger than that gains little by it
	}
	if !l.flushRounds(rounds) {
		l.pool.wg.Go(l.flush)
	}
	return true, nil
}

// lateLocked reports whether the exchange's deadline has passed.
func (l *lane) lateLocked(x *Exchange) bool {
	by := x.due(l.pool)
	return by > 0 && by <= l.pool.now()
}

// awaitCompany lets those run who are about to submit, so that their requests go
// out together with the writer's, for as long as that brings any.
func (l *lane) awaitCompany(gathered int) {
	for range maxYields {
		if !l.pool.yields.Yield(l.submitted) {
			return
		}
		l.mu.Lock()
		n := len(l.outbox.b)
		l.mu.Unlock()
		if n == gathered {
			return
		}
		gathered = n
	}
}

// submitted is how many exchanges the lane has had.
func (l *lane) submitted() int { return int(l.tail.Load()) }

// boardLocked gives the exchange the next slot.
func (l *lane) boardLocked(r *Rider, x *Exchange) error {
	r.mu.Lock()
	if err := r.mayBoardLocked(l); err != nil {
		r.mu.Unlock()
		return err
	}
	r.admitLocked(l.pool)
	if r.trip.owed == 0 {
		r.lane = l
		// What goes before has run, if its replies are here.
		r.trip = trip{again: true, mark: l.outbox.appended + int64(x.First), ran: x.Follows}
	}
	r.trip.again = r.trip.again && x.Again
	r.trip.slow = r.trip.slow || x.Slow
	r.trip.owed += x.Replies
	r.mu.Unlock()
	l.outbox.appended += int64(len(x.Request))
	tail := l.tail.Load()
	s := &l.slots[tail%maxExchanges]
	s.n, s.known, s.since, s.tx, s.reads = int32(x.Replies), x.known, uint16(l.group.deaths.Load()), x.Transaction, x.Reads
	s.rider.Store(r)
	l.conn.Owe(x.Replies)
	l.tail.Store(tail + 1)
	if l.head.Load() == tail { // else it is watched, or a look is under way: its silence goes on
		l.watch.start(l)
	}
	return nil
}

// fullLocked keeps one slot for retire.
func (l *lane) fullLocked(n int) bool {
	underWay := l.inFlight()
	return underWay >= maxExchanges-1 || l.window.full(underWay) || l.forsaken.Load() >= maxForsaken || l.outbox.overfull(n)
}

// crowdedLocked reports whether a request of n bytes has to wait for room. Who makes
// room looks at crowded after that, so it is set before the last look.
func (l *lane) crowdedLocked(n int) bool {
	if !l.fullLocked(n) {
		return false
	}
	l.crowded.Store(true)
	return l.fullLocked(n)
}

// awaitRoomLocked waits, without the lock, until there may be room.
func (l *lane) awaitRoomLocked(r *Rider, x *Exchange) error {
	if x.NoWait {
		return ErrWouldWait
	}
	by := x.due(l.pool)
	e := &entrant{in: make(chan struct{}, 1), by: by, final: x.Final}
	l.room.add(e)
	r.admit(l.pool)
	l.crowded.Store(true)
	if l.room.isNext(e) && !l.fullLocked(len(x.Request)) {
		l.admitLocked() // it has come behind those alone who were passed over
	}
	l.mu.Unlock()
	l.watch.by(l, by)
	l.attend() // room is made by reading
	left, given := r.enter(e), false
	if !left {
		select {
		case <-e.in:
		case <-x.Left:
			given = true
		}
		left = r.enter(nil)
	}
	l.mu.Lock()
	l.room.remove(e)
	var err error
	switch {
	case left:
		err = net.ErrClosed
	case given:
		err = context.Canceled
	case e.expired:
		err = os.ErrDeadlineExceeded
	default:
		return nil
	}
	l.admitLocked() // it may have been let in for nothing
	if !left {
		r.unsent(l.pool)
	}
	return err
}

// makeRoom is called when a slot, or bytes to be written, have become free.
func (l *lane) makeRoom() {
	l.mu.Lock()
	l.admitLocked()
	l.mu.Unlock()
}

// admitLocked lets the next one in who waits for room, if there is some.
func (l *lane) admitLocked() {
	if l.room.any() && !l.fullLocked(0) {
		if e := l.room.next(l); e != nil {
			e.call() // whoever can't use it passes it on
		}
	}
	l.crowded.Store(l.room.any())
}

// flush writes all that gathers, until nothing is left.
func (l *lane) flush() {
	for !l.flushRounds(math.MaxInt) {
		continue // what one caller's time was too short for
	}
}

// flushRounds writes what has gathered, so many times. It reports whether all is
// written; then nobody is the writer any more.
func (l *lane) flushRounds(rounds int) bool {
	for {
		l.mu.Lock()
		if len(l.outbox.b) == 0 || l.conn.Err() != nil {
			l.outbox.writing, l.writeBy = false, 0
			if l.over {
				l.pool.wg.Done()
			}
			l.mu.Unlock()
			return true
		}
		if rounds--; rounds < 0 || rounds < writerRounds && len(l.outbox.b) > aloneUpTo {
			l.writeBy = 0
			l.mu.Unlock()
			return false
		}
		b := l.outbox.take()
		l.mu.Unlock()
		if l.crowded.Load() {
			l.makeRoom()
		}
		if !l.write(b) {
			return false
		}
		lent.Back(b)
	}
}

// writeAlone is write of a lone request. Of a large one it writes what the socket takes
// at once, and reports false if that isn't all: its caller must not wait.
func (l *lane) writeAlone(b []byte) bool {
	if len(b) <= aloneUpTo {
		return l.write(b)
	}
	n := l.conn.writeNow(b)
	if n < len(b) {
		l.leave(b[n:], true)
	}
	return n == len(b)
}

// write writes b, which counts as issued already. It reports false if its
// caller's time is over first, or the connection has died; the rest is then the
// first thing to be written next.
func (l *lane) write(b []byte) bool {
	n, err := l.conn.nc.Write(b)
	if err == nil {
		return true
	}
	again := errors.Is(err, os.ErrDeadlineExceeded) && l.conn.Err() == nil && !l.conn.socket.opaque
	l.leave(b[n:], again)
	if !again {
		l.conn.Fail(CloseWrite, err)
		l.die()
	}
	return false
}

// leave takes back that rest was issued; again says that it is to be written next.
func (l *lane) leave(rest []byte, again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outbox.leave(rest, again)
	if again {
		_ = l.conn.nc.SetWriteDeadline(time.Time{})
		l.writeBy = 0
	}
}
