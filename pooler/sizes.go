package pooler

import (
	"hash/maphash"
	"sync/atomic"
)

// A large reply delays everybody behind it on a lane. What it will be can't be known
// from its request, and a request has another rider each time; so the requests are
// remembered whose replies were large, and lease a connection from then on, until
// their replies are small again.

const (
	// largeSize is from what size on the replies to an exchange are large. The wait for
	// less is short, and pipelines of small values cost more on leases.
	largeSize = 128 << 10

	// likeUpTo is how much of a request tells it from others.
	likeUpTo = 256
)

// likeness is what a request is known by: a hash of its bytes. Its two lowest bits are
// for the level, and 0 in a request's own. 0: the request isn't remembered.
type likeness uint32

var likeSeed = maphash.MakeSeed()

func likenessOf(request []byte) likeness {
	return likeness(maphash.Bytes(likeSeed, request[:min(len(request), likeUpTo)])) &^ levels
}

// The level is what is remembered of a request: how often lately a lane died under it
// before it was answered, up to three times, or that its reply was large, which is as
// much. A small reply takes it one down.
const (
	unsuspected likeness = iota
	once
	twice
	large  // leases a connection
	levels = large
)

const (
	likeSets = 64
	likeWays = 8
)

// sizes is the table of the requests that are remembered, which a newcomer finds a
// place in if another one there is remembered for no more. It has no lock: of two that
// write to it at a time, what one has to say may be lost, and is learned again.
type sizes [likeSets][likeWays]atomic.Uint32

// places are where the request may be.
func (s *sizes) places(x likeness) *[likeWays]atomic.Uint32 { return &s[x>>2%likeSets] }

// find returns the place where the request is, or nil.
func (s *sizes) find(x likeness) *atomic.Uint32 {
	if x == 0 {
		return nil
	}
	places := s.places(x)
	for i := range places {
		if likeness(places[i].Load())&^levels == x {
			return &places[i]
		}
	}
	return nil
}

// level is what is remembered of the request.
func (s *sizes) level(x likeness) likeness {
	if at := s.find(x); at != nil {
		return likeness(at.Load()) & levels
	}
	return unsuspected
}

// raise has the request remembered with that level at least.
func (s *sizes) raise(x, level likeness) {
	at := s.find(x)
	if at == nil {
		at = s.weakest(x)
	}
	if is := likeness(at.Load()); x != 0 && is != x|level && is&levels <= level {
		at.Store(uint32(x | level))
	}
}

// weakest returns the place that a newcomer may take.
func (s *sizes) weakest(x likeness) *atomic.Uint32 {
	places := s.places(x)
	weakest := &places[x>>8%likeWays] // not always the same, if all are alike
	for i := range places {
		if at := &places[i]; likeness(at.Load())&levels < likeness(weakest.Load())&levels {
			weakest = at
		}
	}
	return weakest
}

// note notes of the replies to a request how large they were.
func (s *sizes) note(x likeness, size int64) {
	if size >= largeSize {
		s.raise(x, large)
		return
	}
	at := s.find(x)
	if at == nil {
		return
	}
	if level := likeness(at.Load()) & levels; level > once {
		at.Store(uint32(x | level - 1))
	} else {
		at.Store(0)
	}
}

// foresee notes of the exchange whose replies are coming in how large they will be,
// as far as the server has said: whoever asks for the same meanwhile knows it, and if
// its caller has left nobody will read them to their end.
func (l *lane) foresee(x likeness) {
	if size := l.inbound.size + l.conn.in.bulkLeft(); size >= largeSize {
		l.group.sizes.raise(x, large)
	}
}

// suspect notes what the peer may have closed the connection for, before any caller is
// told and comes again: a server that bounds what it keeps for a client sends nothing of
// a reply that is too large for it, so any request that reads may have asked for it. One
// that was submitted before another lane died isn't suspected: they die together.
func (l *lane) suspect(tail uint64) {
	if !l.conn.peerClosed() {
		return
	}
	deaths := l.group.deaths.Add(1) - 1
	seen := make(map[likeness]bool) // many may have asked for the same
	for i := l.head.Load(); i != tail; i++ {
		s := &l.slots[i%maxExchanges]
		if s.reads && s.since == deaths && s.rider.Load() != nil && !seen[s.like] {
			seen[s.like] = true
			l.group.sizes.raise(s.like, min(l.group.sizes.level(s.like)+1, large))
		}
	}
}

// forgetSizesLocked forgets what is remembered of requests, after the node was away: all
// lanes have died with it, one after the other, and what has left one of them was on the
// next, so anything may be suspected. It may be another server by now, too.
func (p *Pool) forgetSizesLocked() {
	for _, l := range p.lots {
		if l.shared != nil {
			l.shared.sizes.forget()
		}
	}
}

func (s *sizes) forget() {
	for i := range s {
		for j := range s[i] {
			s[i][j].Store(0)
		}
	}
}

// peerClosed reports whether the connection is dead because the peer has closed it, or
// the network has lost it: from here these are the same.
func (c *Conn) peerClosed() bool {
	dead := c.cause.Load()
	return dead != nil && (dead.reason == ClosePeer || dead.reason == CloseRead || dead.reason == CloseWrite)
}
