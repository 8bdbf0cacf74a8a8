package pooler

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/everpool/everpool/internal/resp"
)

const (
	// maxExchanges is how many requests may be under way on a lane, those
	// included whose callers have left. A power of two.
	maxExchanges = 2048

	// maxUnsent is how many bytes of requests may wait to be written.
	maxUnsent = 1 << 20

	// aloneUpTo is the largest request that its own caller writes. What is
	// larger, or has gathered, may fill the socket's buffer; the caller has to be
	// free by then to read, or nobody might, and a peer that waits for that
	// would never read the rest.
	aloneUpTo = 16 << 10

	// atOnceUpTo is the largest request that its own caller writes where it needn't
	// wait: a goroutine writes what the socket doesn't take at once.
	atOnceUpTo = 64 << 10

	// writerRounds is how often a caller writes for others before a goroutine
	// goes on in its place.
	writerRounds = 4

	// maxYields is how often a writer yields the processor to gather more.
	maxYields = 3

	// largeReply is what is left of a reply when its owner is left to read it
	// alone, straight into its own memory.
	largeReply = readBuffer

	// maxHeld is how many bytes are kept for a rider that doesn't receive them.
	maxHeld = 64 << 10
)

// lane is a shared connection: the requests of many riders go out on it in the
// order of their submission, and the replies come back in the same order.
//
// Nobody is employed to write or to read. Who submits while nobody writes
// becomes the writer, for all that has gathered; who waits for a reply while
// nobody reads becomes the leader, and hands out everybody's replies until its
// own has come. A lone caller therefore does all of it on its own goroutine.
//
// Its invariants:
//
//   - the slots from head to tail are the exchanges whose replies are to come, in
//     the order of their bytes on the connection;
//   - a slot is given up only by the leader, and only when all its replies have
//     been read, or the connection is dead: that its caller has left is no reason;
//   - at most one goroutine writes, and one reads: the leader;
//   - while somebody is parked, there is a leader, or the rider that leads next is
//     on its way;
//   - the outbox is empty or somebody is the writer.
//
// Lock order: Pool.mu (which statistics hold), Lane.mu, Rider.mu.
type lane struct {
	pool  *Pool
	conn  *Conn
	group *Lanes

	mu      sync.Mutex
	outbox  outbox
	writeBy time.Duration // the deadline of the caller that writes, 0: a goroutine does, or none
	closed  bool          // takes nothing more
	room    entrants      // wait for a slot
	over    bool          // the pool has the connection back, and waits for the writer only

	lookedAt time.Duration // when somebody last looked at its socket who hasn't used it yet; 0: nobody

	shut      atomic.Bool // closed, or about to be
	deserted  atomic.Bool // given up: what may go elsewhere has left it
	writes    atomic.Bool // while reads and writes go on different lanes: it is for writes
	desertedN int64       // watch.reads at that time; set before it
	tenure    tenure

	slots   [maxExchanges]slot
	tail    atomic.Uint64 // guarded by mu for writing
	head    atomic.Uint64 // the leader's for writing
	inbound inbound

	leader  atomic.Pointer[Rider] // leads, or is the next to
	parked  atomic.Int32          // riders that wait for a leader's work
	large   atomic.Bool           // a large reply is coming in
	asked   atomic.Int64          // watch.reads, and one more, when another lane was last wished for; negative: it is to be granted
	company atomic.Int64          // exchanges that the last leader has answered together
	crowded atomic.Bool           // somebody waits for room

	forsaken atomic.Int64 // replies to come whose callers have left
	window   window
	ended    sync.Once
	watch    watch
}

// inbound is what a lane's leader knows of the replies that come in. The leader's.
type inbound struct {
	left    int32    // replies to come for the slot at head, 0: not begun
	size    int64    // bytes of its replies that have come
	served  []*Rider // to be woken
	scratch []byte   // for replies that nobody wants
	dropped int64    // bytes of those since one was last wanted
}

// tenure is what the pool keeps of a lane. Guarded by Pool.mu.
type tenure struct {
	opened   time.Duration // since Pool.start
	yielding bool          // retired
	seen     uint64        // lane.tail at the last look
	rests    time.Duration // since when it has carried nothing, as far as the looks tell
	heardN   int64         // watch.reads when the pool last asked
}

// slot is an exchange: a rider's request, and how many replies it is owed.
type slot struct {
	rider atomic.Pointer[Rider]
	n     int32
	known features // what the request is known by
	since uint16   // Lanes.deaths when it was submitted
	tx    bool     // a whole transaction
	reads bool     // changes nothing, so its reply may be of any size
}

// Exchange is what a rider submits.
type Exchange struct {
	Request []byte // complete commands
	Replies int    // how many they are answered with
	// First is the length, in bytes, of the request's first command: until so
	// many are sent the server has nothing to run.
	First int
	// Transaction says that the request is MULTI, commands, and EXEC.
	Transaction bool
	// Slow says that the reply may take long while the server answers others.
	Slow bool
	// Again says that the request may be sent a second time.
	Again bool
	// Follows says that the rider has not received all its replies yet. The
	// exchange then goes where the earlier ones went.
	Follows bool
	// Spread is over how many nodes its client's requests are spread, 0: it has one. Fewer
	// share what there is of each node then, and the same processors.
	Spread int
	// Reads says that the request changes nothing.
	Reads bool
	// Leaves says that the rider can lease a connection, if others would have to
	// wait for a large reply: Submit fails with [ErrLarge] then.
	Leaves bool
	// Deadline ends waiting for room, and writing; zero: it doesn't.
	Deadline time.Time
	// Final says that the deadline is that of the whole request, see [Request].Final.
	Final bool
	// Left ends waiting for room: Submit fails with [context.Canceled]. nil: it doesn't.
	Left <-chan struct{}
	// NoWait has Submit fail with [ErrWouldWait] where the exchange would have to wait for
	// room, with nothing counted: it is to come again.
	NoWait bool

	known features
	by    time.Duration // Deadline, since Pool.start; see due
}

// due is the deadline since the pool's start, 0: none. Of those that go out with
// somebody else's nobody asks for it, which saves them a look at the clock.
func (x *Exchange) due(p *Pool) time.Duration {
	if x.by == 0 {
		x.by = p.since(x.Deadline)
	}
	return x.by
}

// mourner stands for whoever clears up after a lane.
var mourner Rider

func newLane(p *Pool, c *Conn, group *Lanes) *lane {
	// What its last lease has left there would end somebody's write.
	_ = c.nc.SetWriteDeadline(time.Time{})
	c.writeBy = time.Time{}
	return &lane{pool: p, conn: c, group: group}
}

// inFlight is the number of exchanges under way.
func (l *lane) inFlight() int { return int(l.tail.Load() - l.head.Load()) }

func (l *lane) now() time.Duration { return l.pool.now() }

// answered is the number of exchanges that the open lanes of the session have answered.
func (l *lane) answered() (n uint64) {
	for _, o := range *l.group.lanes.Load() {
		n += o.head.Load()
	}
	return n
}

// live is the number of exchanges whose callers haven't left. The lane's own have none.
func (l *lane) live() int {
	n := 0
	for i, tail := l.head.Load(), l.tail.Load(); i != tail; i++ {
		if r := l.slots[i%maxExchanges].rider.Load(); r != nil && !r.own && !r.left() {
			n++
		}
	}
	return n
}

// checkIdleLocked looks at the socket of an idle lane before it is used: the peer may
// have closed it, or said something that would be taken for the reply.
func (l *lane) checkIdleLocked(r *Rider) bool {
	if !l.leader.CompareAndSwap(nil, r) {
		return true // the last leader is about to go; it has just heard from the peer
	}
	ok := l.conn.alive()
	l.leader.CompareAndSwap(r, nil)
	return ok
}

// mayBeOpen looks at the lane, if nobody uses it, and reports false if the peer has closed it.
func (l *lane) mayBeOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.inFlight() > 0 || l.outbox.writing {
		return l.conn.Err() == nil
	}
	if !l.checkIdleLocked(&lookout) {
		return false
	}
	l.lookedAt = l.now()
	return true
}

// lookHolds is for how long nobody looks at an idle lane again before it is used that was looked
// at for that: go-redis writes about as soon after its own look at a socket.
const lookHolds = time.Millisecond

// isReadyLocked reports whether an idle lane may be used, as far as its socket tells.
func (l *lane) isReadyLocked(r *Rider) bool {
	at := l.lookedAt
	l.lookedAt = 0
	return at > 0 && l.now()-at < lookHolds || l.checkIdleLocked(r)
}

// lookout stands for whoever looks at an idle lane without a request.
var lookout Rider

// check looks at a lane that nobody uses. One whose connection is dead ends.
func (l *lane) check() {
	l.mu.Lock()
	if l.inFlight() > 0 || l.outbox.writing || l.closed {
		l.mu.Unlock()
		return
	}
	dead := !l.checkIdleLocked(&lookout)
	if dead || l.conn.socket.raw != nil {
		l.mu.Unlock()
		if dead {
			l.die()
		}
		return
	}
	r, _ := l.pingLocked() // its socket can't be looked at
	l.mu.Unlock()
	l.flush()
	var reply [512]byte
	_, _, _ = r.Receive(reply[:], time.Now().Add(l.pool.cfg.HealthCheckTimeout))
	r.Close()
	if l.conn.Err() != nil {
		l.die()
	}
}

// lead reads and hands out replies until r has what it came for, or must go. The
// rider leads already, and had nothing when it took the lead.
func (l *lane) lead(r *Rider) {
	first := l.head.Load()
	if !l.conn.Buffered() && l.conn.Err() == nil {
		if l.isOneOfFew() {
			l.pool.yields.Yield(nil)
		}
		l.fill(r)
	}
	for {
		owner := l.deliver()
		dead := l.conn.Err() != nil
		if r.hasEnough() || dead {
			head := l.head.Load()
			if n := int64(head - first); n != l.company.Load() {
				l.company.Store(n)
			}
			if head/trialLooks != first/trialLooks {
				l.group.trial.note(l.now(), l.answered())
			}
			l.stepDown(r)
			return
		}
		if owner != nil && owner != r && l.handTo(owner, r) {
			return
		}
		if !l.conn.Buffered() {
			l.fill(r)
		}
	}
}

// succeed has r lead, which was about to be parked when the last leader went: unless that one
// has left it what it came for, or it must go. There may be nothing more to be read.
func (l *lane) succeed(r *Rider) {
	if r.toTheLead(); r.hasEnough() {
		l.stepDown(r)
		return
	}
	l.lead(r)
}

// isOneOfFew reports whether the leader, which is alone here while there are others on
// other lanes, had better let one of them run before it reads: its reply is often there
// then, and both are spared a sleep. Every second time only: who does sleep is looked for
// when no other can run. Not where few had better share lanes: it costs what that saves.
func (l *lane) isOneOfFew() bool {
	head := l.head.Load()
	if head%2 != 0 || l.tail.Load() != head+1 || l.group.trial.together.Load() {
		return false
	}
	for _, o := range *l.group.lanes.Load() {
		if o != l && o.inFlight() > 0 {
			return true
		}
	}
	return false
}

// deliver hands out what is buffered, and wakes those who wait for it. It returns
// the rider that can't take more just now, or that had better read the rest
// itself, if there is one.
func (l *lane) deliver() *Rider {
	owner := l.handOut()
	l.conn.Withdraw() // the leader may go
	// Together, so that their next requests come together.
	for i, r := range l.inbound.served {
		r.wake <- struct{}{}
		l.inbound.served[i] = nil
	}
	l.inbound.served = l.inbound.served[:0]
	return owner
}

func (l *lane) handOut() *Rider {
	c := l.conn
	for c.Buffered() {
		head := l.head.Load()
		if head == l.tail.Load() {
			if c.in.atPush() {
				_ = c.dropPush()
			} else {
				c.unasked()
			}
			if c.Err() != nil {
				return nil
			}
			continue
		}
		s := &l.slots[head%maxExchanges]
		r := s.rider.Load()
		if l.inbound.left == 0 {
			l.inbound.left = s.n
		}
		full := l.deliverTo(r, s)
		if l.inbound.left > 0 {
			l.foresee(s.known)
		}
		switch {
		case c.Err() != nil:
			if l.inbound.left == 0 { // answered just before: whoever leads next goes on behind it
				l.head.Store(head + 1)
			}
			return nil
		case full:
			return r
		}
		if c.changed {
			l.pool.nodeChanged(c)
		}
		if l.inbound.dropped > 0 && l.inbound.dropped+l.rest() > drainLimit && !l.deserted.Load() {
			l.group.sizes.blame(s.known.name.like())
			l.pool.letGo(l, head, errForsaken, l.endForsaken)
		}
		if l.inbound.left > 0 {
			continue
		}
		if !s.reads && l.group.split.on.Load() {
			l.group.split.on.Store(false) // a write is answered
		}
		l.head.Store(head + 1)
		if l.crowded.Load() {
			l.makeRoom()
		}
	}
	switch s := &l.slots[l.head.Load()%maxExchanges]; {
	case l.inbound.left == 0:
	case c.in.bulkLeft() >= largeReply:
		l.large.Store(true)
		return s.rider.Load()
	case l.inbound.size+l.rest() >= largeSize:
		l.large.Store(true)
	}
	return nil
}

// rest is about how much of the replies to the first exchange is still to come.
func (l *lane) rest() int64 {
	all, left := l.slots[l.head.Load()%maxExchanges].n, l.inbound.left
	return l.conn.in.rest(l.inbound.size, int64(all-left), int64(left))
}

// deliverTo hands r what is buffered of its exchange. It reports whether r has no
// room for more.
func (l *lane) deliverTo(r *Rider, s *slot) (full bool) {
	c := l.conn
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.rider.Load() != r {
		return false // it has gone to another connection this moment
	}
	for l.inbound.left > 0 && c.Buffered() {
		to, held := l.roomLocked(r)
		if to == nil {
			r.wakeLocked()
			return true
		}
		n, done, err := c.ReceiveBuffered(to)
		r.trip.began = r.trip.began || n > 0
		l.inbound.size += int64(n)
		switch {
		case r.closed:
			l.inbound.dropped += int64(n)
		case held:
			r.stash.add(n)
			l.inbound.dropped = 0
		default:
			r.got, l.inbound.dropped = r.got+n, 0
		}
		if err != nil {
			return false
		}
		if done {
			l.inbound.left--
			r.trip.owed--
			if r.closed && r != &ghost {
				l.forsaken.Add(-1)
			}
			if s.tx && l.inbound.left == 0 {
				l.afterTransaction()
			}
		}
	}
	if l.inbound.left == 0 {
		l.large.Store(false)
		l.group.sizes.answered(s.known, l.inbound.size, !r.closed || r == &ghost)
		l.inbound.size = 0
		l.window.note(r.closed, l.head.Load()+1, l.tail.Load(), l)
		s.rider.Store(nil) // before r can go anywhere else
	}
	if (l.inbound.left == 0 || r.p != nil && r.got == len(r.p)) && r.unparkLocked() {
		l.inbound.served = append(l.inbound.served, r)
	}
	return false
}

// roomLocked returns the memory for what comes next for r: that of its caller if
// it is waiting, or what is held for it. nil: r has to take some first.
func (l *lane) roomLocked(r *Rider) (to []byte, held bool) {
	switch {
	case r.closed:
		if l.inbound.scratch == nil {
			l.inbound.scratch = make([]byte, 4<<10)
		}
		return l.inbound.scratch, false
	case r.p != nil && r.got < len(r.p) && r.stash.len() == 0:
		return r.p[r.got:], false
	case r.stash.len() >= r.maxHeldLocked():
		return nil, false
	}
	return r.stash.room(min(len(l.conn.in.next()), r.maxHeldLocked()-r.stash.len())), true
}

// afterTransaction ends the connection if EXEC is no command here: then it is
// still inside MULTI, with everybody else's requests.
func (l *lane) afterTransaction() {
	if c := l.conn; c.Kind() == '-' && resp.UnknownCommand(c.complaint()) {
		c.Fail(CloseState, errors.New("everpool: EXEC was refused where MULTI was not"))
	}
}

// fill reads from the socket, what is the leader's own straight into its memory, if
// that is large enough: the body of a large string, and what begins with its replies,
// most of which are its own in a pipeline, and need no copy then.
func (l *lane) fill(r *Rider) {
	c := l.conn
	var n int
	p := r.p[r.got:]
	own := l.slots[l.head.Load()%maxExchanges].rider.Load() == r
	rest := c.in.bulkLeft()
	if own && rest >= largeReply && len(p) >= readBuffer {
		n, _ = c.read(p[:min(int64(len(p)), rest)], time.Time{}) // what went wrong shows in Err
		c.in.scan.Skip(int64(n))
		r.got += n
		l.inbound.size += int64(n)
	} else {
		n, _ = c.refill(p, time.Time{}, own && len(p) >= inPlaceFrom)
	}
	if n > 0 {
		l.watch.heard()
		l.grantWish()
	}
}

// handTo has another rider lead: the owner of a large reply, who reads it into its
// own memory, or of one that isn't fetched. It reports false if that rider has
// left.
func (l *lane) handTo(to, from *Rider) bool {
	to.mu.Lock()
	defer to.mu.Unlock()
	switch {
	case to.closed:
		return false
	case to.receiving:
	case (to.away || to.trip.spills) && to.stash.len() < to.maxHeldLocked():
		return false // it comes later, and what comes for it can be kept
	default:
		l.watch.by(l, l.pool.now()+patience)
	}
	from.setState(riderRunning) // two riders' locks at a time are the leader's alone
	l.leader.Store(to)
	to.wakeLocked()
	return true
}

// stepDown ends r's term, or takes back that it is the next: whoever waits is.
func (l *lane) stepDown(r *Rider) {
	if l.leader.CompareAndSwap(r, nil) {
		l.handOn()
	}
}

// handOn finds somebody to lead after a term has ended.
func (l *lane) handOn() {
	switch {
	case l.conn.Err() != nil:
		l.bury()
	case l.parked.Load() > 0:
		l.promote()
	case l.crowded.Load():
		l.attend()
	}
}

// promote makes the first who is parked the leader. There is none if whoever is
// has not tried yet to lead by itself.
func (l *lane) promote() {
	for i, tail := l.head.Load(), l.tail.Load(); i != tail; i++ {
		r := l.slots[i%maxExchanges].rider.Load()
		if r == nil {
			continue
		}
		r.mu.Lock()
		if r.state == riderParked && r.lane == l {
			if l.leader.CompareAndSwap(nil, r) {
				r.wakeLocked()
			}
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
	}
}

// closeLocked has the lane take nothing more: who waits for room goes elsewhere.
func (l *lane) closeLocked() {
	l.closed = true
	l.shut.Store(true)
	l.room.dismiss()
}

// die ends a lane whose connection is dead.
func (l *lane) die() {
	l.mu.Lock()
	l.closeLocked()
	l.mu.Unlock()
	l.conn.InterruptReceive() // a leader sees it and clears up
	l.bury()
}

// bury tells all riders of a dead connection, unless somebody leads: that one
// comes here when it steps down.
func (l *lane) bury() {
	for !l.leader.CompareAndSwap(nil, &mourner) {
		next := l.leader.Load()
		if next == &mourner || next != nil && !next.resign(l) {
			return
		}
	}
	cause := l.conn.Err()
	l.mu.Lock()
	l.closeLocked()
	tail, issued := l.tail.Load(), l.outbox.issued
	l.mu.Unlock()
	l.suspect(tail)
	for i, head := l.head.Load(), l.head.Load(); i != tail; i++ {
		s := &l.slots[i%maxExchanges]
		if i == head+1 && errors.Is(cause, ErrProtocol) {
			cause = fmt.Errorf("another request's reply: %s", cause.Error()) // theirs may be right
		}
		if r := s.rider.Load(); r != nil { // else it was answered just before
			r.lose(l, s, cause, issued)
		}
		s.rider.Store(nil)
	}
	l.head.Store(tail)
	l.finish()
}

// finish gives the connection back to the pool.
func (l *lane) finish() {
	l.ended.Do(func() {
		l.pool.endLane(l)
		l.mu.Lock()
		l.over = true
		free := !l.outbox.writing
		l.mu.Unlock()
		if free {
			l.pool.wg.Done()
		}
	})
}

// retire has the lane take nothing more, and gives its connection back when all
// replies are in. The last of them is the one to a PING that follows everything,
// so no special care is needed for what comes before.
func (l *lane) retire() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closeLocked()
	l.pool.wg.Add(1) // while the lane hasn't ended
	if l.inFlight() == 0 && !l.outbox.writing && l.leader.CompareAndSwap(nil, &mourner) {
		l.mu.Unlock()
		_ = l.conn.alive() // if it isn't, nobody gets it
		l.finish()
		l.pool.wg.Done()
		return
	}
	last, write := l.pingLocked()
	l.mu.Unlock()
	go func() {
		defer l.pool.wg.Done()
		if write {
			l.flush()
		}
		l.awaitLast(last)
	}()
}

// pingLocked adds a PING of the lane's own, and reports whether it has to be written.
func (l *lane) pingLocked() (r *Rider, write bool) {
	r = NewRider()
	r.own = true
	_ = l.boardLocked(r, &Exchange{Request: ping, Replies: 1, First: len(ping), Reads: true}) // it has nothing that could be lost
	l.outbox.add(ping)
	write = !l.outbox.writing
	l.outbox.writing = true
	return r, write
}

// awaitLast waits until the lane is drained. It is cut when for HealthCheckTimeout
// nothing was heard and nobody waits any more.
func (l *lane) awaitLast(last *Rider) {
	var reply [512]byte
	limit := l.pool.cfg.HealthCheckTimeout
	for {
		before := l.head.Load()
		_, done, err := last.Receive(reply[:], time.Now().Add(limit))
		switch {
		case l.conn.Err() != nil:
			l.die()
			return
		case done:
			l.drained()
			return
		case err == nil, before != l.head.Load(), l.live() > 0:
		default:
			l.giveUp(err)
		}
	}
}

// drained ends a lane whose replies are all in. Who has read the last of them may
// not have stepped down yet.
func (l *lane) drained() {
	for !l.leader.CompareAndSwap(nil, &mourner) {
		if l.leader.Load() == &mourner {
			return // it has died meanwhile
		}
		runtime.Gosched()
	}
	l.finish()
}
