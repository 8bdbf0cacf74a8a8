package pooler

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Stats is a snapshot of a pool, taken at one moment: gauges first, then
// counters that only grow. Its first nine fields are those of
// [database/sql.DBStats], with the same meaning.
type Stats struct {
	MaxOpenConnections int // the bound; -1 when there is none
	OpenConnections    int // InUse + Idle
	InUse              int // leased, draining or being checked
	Idle               int

	WaitCount         int64         // requests that had to wait
	WaitDuration      time.Duration // that they waited together
	MaxIdleClosed     int64
	MaxIdleTimeClosed int64
	MaxLifetimeClosed int64

	// Gauges.

	State          State
	Since          time.Time     // of the state
	Dialing        int           // dials under way
	Draining       int           // connections that are waiting for an abandoned request's replies
	Waiting        int           // requests that wait for a connection
	Awaiting       int           // callers that wait until the node serves, before they make a request or go on with one; see [Pooler]
	Pinned         int           // leases that outlast their request
	Streams        int           // of Pinned: those beyond MaxOpenConns
	OldestWaiter   time.Duration // for how long the oldest one has been waiting
	OldestExchange time.Duration // age of the oldest lease that isn't pinned, or longest silence of a shared connection that owes replies
	Sessions       int           // sessions with a connection or a waiter
	Lanes          int           // shared connections, of InUse
	LaneStats      []LaneStats   // of each of them, the oldest connection first
	Holders        []Holder      // of the connections in use, those who hold most first

	// Counters, which never go back. A request is admitted once, when it first gets or
	// waits for a connection, and ends once. In each snapshot
	// Admitted = Shared + Leased = Answered + Failed + Abandoned + InFlight, the last
	// of which is a gauge: requests that wait or are under way.

	Admitted  int64
	InFlight  int64
	Answered  int64 // all replies were received
	Failed    int64 // refused, never sent, lost, or late with an unknown outcome; or sent away
	SentAway  int64 // of Failed: got no connection since the node was ill; each comes again as another request, or goes to another node
	Abandoned int64 // the caller left first
	Shared    int64 // requests for a shared connection; a whole pipeline is one
	Leased    int64 // requests for a lease of their own
	Moved     int64 // sent on another connection since the first provably didn't run them
	Resent    int64 // reads that were sent a second time
	Unknown   int64 // ended with ErrUnknownOutcome: of Failed, or of Abandoned after a timeout on a shared connection

	WaitTimeouts  int64
	Dials         int64 // dials begun
	DialErrors    int64
	LastDialError string // "" when the last dial succeeded
	Heals         int64  // times that the node came back
	PushesDropped int64  // RESP3 pushes that had no taker

	Closes map[CloseReason]int64
	Pins   map[string]int64
}

// LaneStats is what is under way on one shared connection, taken at one moment.
type LaneStats struct {
	Conn      uint64        // the number of the connection, see [Conn.ID]
	InFlight  int           // exchanges whose replies are to come, those included whose callers have left
	Forsaken  int           // replies to come whose callers have left; with 64 of them nothing more is let on
	Oldest    time.Duration // for how long the first of them has been under way at least, as far as looks each 25 ms tell (SilenceAfter, if that is less); 0: since the last one
	Silence   time.Duration // for how long replies have been owed and nothing was heard
	Unwritten int           // bytes of requests that wait to be written; not those that are being written
	Entering  int           // requests that wait for room on it
	Yielding  bool          // it takes no more requests, and becomes another's, or is closed, when its replies are in
}

// counters are the monotonic part of Stats, guarded by Pool.mu.
type counters struct {
	waitCount    int64
	waitDuration time.Duration
	admitted     int64
	answered     int64
	failed       int64
	sentAway     int64
	abandoned    int64
	moved        int64
	resent       int64
	unknown      int64
	waitTimeouts int64
	dials        int64
	dialErrors   int64
	heals        int64
	pushes       int64

	closes map[CloseReason]int64
	pins   map[string]int64
}

// statsLocked is what is under way on the lane. Pool.mu is held.
func (l *lane) statsLocked(now time.Duration) LaneStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := LaneStats{
		Conn: l.conn.id, InFlight: l.inFlight(), Forsaken: int(l.forsaken.Load()), Unwritten: len(l.outbox.b),
		Entering: len(l.room.all), Yielding: l.tenure.yielding,
	}
	if owes, since := l.silence(); owes {
		s.Silence = max(0, now-since) // it may have begun since the snapshot did
	}
	if s.InFlight > 0 {
		s.Oldest = l.watch.elders.age(l.head.Load(), now)
	}
	return s
}

// sharedLocked adds what is carried by lanes.
func (p *Pool) sharedLocked(s *Stats, now time.Duration) {
	for c := range p.conns.all {
		if l := c.lane; l != nil {
			of := l.statsLocked(now)
			s.LaneStats = append(s.LaneStats, of)
			s.OldestExchange = max(s.OldestExchange, of.Silence)
		}
	}
	s.Lanes = len(s.LaneStats)
	slices.SortFunc(s.LaneStats, func(a, b LaneStats) int { return cmp.Compare(a.Conn, b.Conn) })
	n := p.rides.books.read()
	s.Shared = n.begun
	s.Admitted += n.begun
	s.InFlight += n.begun - n.over
	s.Answered += n.over - n.failed - n.abandoned
	s.Failed += n.failed
	s.Abandoned += n.abandoned
	s.Moved += p.rides.moved.Load()
	s.Resent += p.rides.resent.Load()
	s.Unknown += p.rides.unknown.Load()
}

// Stats returns a snapshot of the pool. It takes the pool's lock for a time
// that grows with the number of connections, and meanwhile, for a moment, that of each
// shared connection.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	s := Stats{
		MaxOpenConnections: p.cfg.MaxOpenConns,
		OpenConnections:    len(p.conns.all),
		InUse:              len(p.conns.all) - p.conns.idle,
		Idle:               p.conns.idle,
		WaitCount:          p.n.waitCount,
		WaitDuration:       p.n.waitDuration,
		MaxIdleClosed:      p.n.closes[CloseMaxIdle],
		MaxIdleTimeClosed:  p.n.closes[CloseIdle],
		MaxLifetimeClosed:  p.n.closes[CloseLifetime],
		State:              p.health.state,
		Since:              p.health.since,
		Dialing:            p.dials.running,
		Draining:           p.conns.drains,
		Streams:            p.conns.beyond,
		Waiting:            p.queue.waiting,
		Awaiting:           p.health.awaiting.n,
		Admitted:           p.n.admitted,
		Answered:           p.n.answered,
		Failed:             p.n.failed,
		SentAway:           p.n.sentAway,
		Abandoned:          p.n.abandoned,
		InFlight:           p.n.admitted - p.n.answered - p.n.failed - p.n.abandoned,
		Leased:             p.n.admitted,
		Moved:              p.n.moved,
		Resent:             p.n.resent,
		Unknown:            p.n.unknown,
		WaitTimeouts:       p.n.waitTimeouts,
		Dials:              p.n.dials,
		DialErrors:         p.n.dialErrors,
		Heals:              p.n.heals,
		PushesDropped:      p.n.pushes,
		Closes:             maps.Clone(p.n.closes),
		Pins:               maps.Clone(p.n.pins),
	}
	if s.MaxOpenConnections == unlimited {
		s.MaxOpenConnections = -1
	}
	if err := p.health.lastErr; err != nil {
		s.LastDialError = err.Error()
	}
	oldest := func(l *waiterList) {
		if l.head != nil {
			s.OldestWaiter = max(s.OldestWaiter, now-l.head.since)
		}
	}
	sessions := make(map[*Session]struct{})
	for _, l := range p.lots {
		for _, list := range l.lists() {
			oldest(list)
		}
		if len(l.idle) > 0 || l.first() != nil || l.shared != nil && len(*l.shared.lanes.Load()) > 0 {
			sessions[l.session] = struct{}{}
		}
	}
	for c := range p.conns.all {
		oldest(&c.wanted)
		s.PushesDropped += c.pushDropped.Load()
		if c.lease.pin != "" {
			s.Pinned++
		} else if c.place == placeLeased && c.lane == nil {
			s.OldestExchange = max(s.OldestExchange, now-c.lease.since)
		}
	}
	s.Sessions = len(sessions)
	s.Holders = p.holdersLocked(now)
	p.sharedLocked(&s, now)
	return s
}
