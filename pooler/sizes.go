package pooler

import (
	"hash/maphash"
	"sync/atomic"
)

// A large reply on a lane delays everybody behind it, and a server that closes the
// connection for it takes their replies along. What it will be can't be known from
// the request alone; so what was large is remembered, and leases a connection from
// then on, until it turns out small again.

const (
	// largeSize is from what size on the replies of an exchange are large. It is
	// the bound of a request that may share, and a hundred times what most
	// replies have: below it the wait is short, and a change of ways gains little.
	largeSize = 64 << 10

	// hugeSize is from what size on a reply is worth waiting for a lease in a
	// full pool: as much as is read of one that nobody wants.
	hugeSize = 1 << 20
)

// What is remembered of a request, from little to much.
const (
	suspect uint64 = iota + 1 // it was under way when the peer closed a lane
	large
	huge
)

// Likeness is what requests are told apart by where the sizes of their replies are
// remembered. Zero: nothing is. [LikenessOf] makes one.
//
// From the lowest bit: two for a level, whether the request was remembered when it
// was sent, whether it may be suspected, six that stand for the command, and the rest
// for the request.
type Likeness uint64

const (
	likeLevel   = 3
	likeKnown   = 1 << 2
	likeSuspect = 1 << 3
	likeFlags   = 1<<4 - 1
	likeKind    = 4
	likeRequest = 10

	// likeUpTo is how much of a request is looked at.
	likeUpTo = 256
)

var likeSeed = maphash.MakeSeed()

// LikenessOf returns the likeness of a request of the command, or of several that
// begin with one of it. suspicious says that its reply may be of any size.
func LikenessOf(request []byte, command string, several, suspicious bool) Likeness {
	kind := maphash.String(likeSeed, command)
	if several {
		kind++
	}
	l := maphash.Bytes(likeSeed, request[:min(len(request), likeUpTo)]) &^ (1<<likeRequest - 1)
	l |= kind % kinds << likeKind
	if suspicious {
		l |= likeSuspect
	}
	return Likeness(l)
}

const (
	requests = 512
	kinds    = 64

	// A command is one of large replies while more than a quarter of those that
	// came unforeseen were large, in a moving average over some sixteen.
	wholeShare = 1 << 12
	largeShare = wholeShare / 4
	shareDecay = 16
)

// sizes is what is remembered of the replies of a session: the requests whose reply
// was large, and how often the replies of a command were that unforeseen. It forgets
// what is overwritten, and two writers at a time may lose what one of them had to
// say: what is lost is learned again.
type sizes struct {
	requests [requests]atomic.Uint64 // likeness without its flags, with a level
	kinds    [kinds]atomic.Uint32    // shares of wholeShare
}

func (x Likeness) key() uint64 { return uint64(x) &^ likeFlags }

// places returns the two places where the request may be.
func (s *sizes) places(x Likeness) [2]*atomic.Uint64 {
	i := uint64(x) >> likeRequest % requests
	return [2]*atomic.Uint64{&s.requests[i], &s.requests[i^1]}
}

func (s *sizes) kind(x Likeness) *atomic.Uint32 { return &s.kinds[uint64(x)>>likeKind%kinds] }

// level is what is remembered of the request, 0: nothing.
func (s *sizes) level(x Likeness) uint64 {
	for _, at := range s.places(x) {
		if e := at.Load(); e&^likeLevel == x.key() {
			return e & likeLevel
		}
	}
	return 0
}

// remember notes the request with that level at least. One that is suspected again
// rises.
func (s *sizes) remember(x Likeness, level uint64) {
	places := s.places(x)
	weakest := places[0]
	for _, at := range places {
		e := at.Load()
		if e&^likeLevel == x.key() {
			if level == suspect {
				level = e&likeLevel + 1
			}
			at.Store(x.key() | min(huge, max(level, e&likeLevel)))
			return
		}
		if e&likeLevel < weakest.Load()&likeLevel {
			weakest = at
		}
	}
	e := weakest.Load()
	switch {
	case e&likeLevel <= level:
		weakest.Store(x.key() | level)
	case level > suspect:
		weakest.Store(e - 1) // it may be long gone
	}
}

// foresee notes of a reply that isn't over yet that it will have so many bytes.
func (s *sizes) foresee(x Likeness, size int64) {
	switch {
	case x == 0 || size < largeSize:
	case size < hugeSize:
		s.remember(x, large)
	default:
		s.remember(x, huge)
	}
}

// note notes how large the replies of a request were.
func (s *sizes) note(x Likeness, size int64) {
	if x == 0 {
		return
	}
	s.foresee(x, size)
	if x&likeKnown == 0 {
		s.count(x, size >= largeSize)
	} else if size < largeSize {
		s.fade(x)
	}
}

// fade notes that the reply to a request that is remembered was small.
func (s *sizes) fade(x Likeness) {
	for _, at := range s.places(x) {
		if e := at.Load(); e&^likeLevel == x.key() {
			if e--; e&likeLevel == 0 {
				e = 0
			}
			at.Store(e)
		}
	}
}

// count notes of a reply that nothing was known of whether it was large.
func (s *sizes) count(x Likeness, isLarge bool) {
	at := s.kind(x)
	switch share := at.Load(); {
	case isLarge:
		at.Store(share + (wholeShare-share)/shareDecay)
	case share > 0:
		at.Store(share - (share+shareDecay-1)/shareDecay)
	}
}

// acquit forgets what is only suspected.
func (s *sizes) acquit() {
	for i := range s.requests {
		at := &s.requests[i]
		if e := at.Load(); e&likeLevel == suspect {
			at.CompareAndSwap(e, 0)
		}
	}
}

// Fit is how a request fits on shared connections, by the size of its reply.
type Fit uint8

// The fits.
const (
	Rides    Fit = iota // nothing is known against it
	Leaves              // it had better lease a connection, if one is to be had
	LeavesBy            // it must not ride, even if it has to wait for a lease
)

// Fit says whether the request had better ride or lease a connection, and returns
// what its exchange has to carry.
func (s *Lanes) Fit(x Likeness) (Likeness, Fit) {
	x &^= likeKnown
	switch level := s.sizes.level(x); {
	case level == huge:
		return x | likeKnown, LeavesBy
	case level > 0:
		return x | likeKnown, Leaves
	case s.sizes.kind(x).Load() > largeShare:
		return x, Leaves
	}
	return x, Rides
}

// Spare reports whether a request that leased a connection now would hardly have to
// wait for others' leases: there are more connections unused, or not open yet, than
// requests that wait.
func (s *Lanes) Spare() bool {
	p := s.pool
	p.mu.Lock()
	defer p.unlock()
	return p.health.state == StateUp && p.waiting < p.cfg.MaxOpenConns-len(p.all)+p.beyond+p.idle
}

// Note notes how large the replies of a request were that has leased a connection.
func (s *Lanes) Note(x Likeness, size int64) { s.sizes.note(x, size) }

// suspect notes what was under way when the peer closed the lane, before
// anybody is told and comes again: a server that closes a connection for its replies
// sends none of them. It is called by whoever buries the lane.
func (l *lane) suspect(tail uint64) {
	if !l.conn.peerClosed() {
		return
	}
	for i := l.head.Load(); i != tail; i++ {
		if s := &l.slots[i%maxExchanges]; s.like&likeSuspect != 0 && s.rider.Load() != nil {
			l.group.sizes.remember(s.like, suspect)
		}
	}
}

// peerClosed reports whether the connection is dead because the peer has closed it, or
// the network has lost it: from here these are the same.
func (c *Conn) peerClosed() bool {
	dead := c.cause.Load()
	return dead != nil && (dead.reason == ClosePeer || dead.reason == CloseRead || dead.reason == CloseWrite)
}

// sizes is what is remembered of the session's replies, on whichever connections.
func (s *Session) sizes() *sizes {
	if s.large.Load() == nil {
		s.large.CompareAndSwap(nil, new(sizes))
	}
	return s.large.Load()
}

// foresee notes of the reply that is coming in how large it will be.
func (l *lane) foresee() {
	if c := l.conn; l.left > 0 && !c.dropping() {
		l.group.sizes.foresee(l.slots[l.head.Load()%maxExchanges].like, l.size+c.scan.BulkRemaining())
	}
}

// acquitLocked forgets what was suspected: it was the node that has gone.
func (p *Pool) acquitLocked() {
	for _, l := range p.lots {
		if l.shared != nil {
			l.shared.sizes.acquit()
		}
	}
}
