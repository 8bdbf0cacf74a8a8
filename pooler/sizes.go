package pooler

import (
	"bytes"
	"hash/maphash"
	"math/bits"
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

	// unwantedSize is from what size on those are whose caller has left: others wait behind
	// them for nothing at all. And those of a server that bounds what it keeps for a client, for
	// which they add up.
	unwantedSize = 16 << 10

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

// kin is what requests have in common that aren't alike: the hash of how they begin. 0:
// nothing is known of that.
type kin uint16

func kinOf(beginning []byte) kin { return kin(maphash.Bytes(likeSeed, beginning)) }

// like is where the table has what is remembered of them all.
func (k kin) like() likeness {
	if k == 0 {
		return 0
	}
	return likeness(k)<<16 | likeness(k)<<2
}

// features are all that a request is known by: itself, its command and the argument behind
// it, which is a key as a rule, and the command alone. So the size of what GETRANGE says of
// a key is known whatever the range, and that of MGET if it is the same for all keys. The
// command of a pipeline is its first one, with about so many replies.
type features struct {
	request   likeness
	key, name kin
}

// likes are where the table has what is remembered of each.
func (f features) likes() [3]likeness { return [...]likeness{f.request, f.key.like(), f.name.like()} }

// featuresOf are those of a request with so many replies.
func featuresOf(request []byte, replies int) features {
	f := features{request: likenessOf(request)}
	begin := bytes.IndexByte(request, '\n') + 1 // "*2\r\n"
	name := endOfArgument(request, begin)
	if name == 0 {
		return f
	}
	f.name = kinOf(request[begin:name])
	if replies != 1 {
		f.name += kin(bits.Len(uint(replies))) << 8
		return f
	}
	if key := endOfArgument(request, name); key > 0 && key < len(request) {
		f.key = kinOf(request[begin:key])
	}
	return f
}

// endOfArgument is where the argument ends that begins there, 0: there is none within
// likeUpTo.
func endOfArgument(request []byte, at int) int {
	n, i := 0, at+1 // "$3\r\nGET\r\n"
	for ; i < len(request) && request[i] >= '0' && request[i] <= '9' && n < likeUpTo; i++ {
		n = 10*n + int(request[i]-'0')
	}
	if end := i + 2 + n + 2; i > at+1 && end <= min(len(request), likeUpTo) {
		return end
	}
	return 0
}

// The level is what is remembered of a request: how often lately a lane died under it
// before it was answered, up to three times, or that its reply was large, which is as
// much. A small reply takes it one down, and one between small and large from the highest
// alone.
const (
	unsuspected likeness = iota
	once
	twice
	large  // leases a connection
	levels = large
)

const (
	likeSets = 1 << 10
	likeWays = 8
)

// likeTable has room for some thousand requests in 32 KiB.
type likeTable [likeSets][likeWays]atomic.Uint32

// sizes is the table of the requests that are remembered, which a newcomer finds a
// place in if another one there is remembered for no more. It has no lock: of two that
// write to it at a time, what one has to say may be lost, and is learned again.
type sizes struct {
	table   atomic.Pointer[likeTable] // nil: nothing is remembered
	bounded atomic.Bool               // the server closes connections for what it keeps for them
}

// largeFrom is from what size on replies are large.
func (s *sizes) largeFrom() int64 {
	if s.bounded.Load() {
		return unwantedSize
	}
	return largeSize
}

// places are where the request may be.
func (t *likeTable) places(x likeness) *[likeWays]atomic.Uint32 { return &t[x>>2%likeSets] }

// find returns the place where the request is, or nil.
func (s *sizes) find(x likeness) *atomic.Uint32 {
	t := s.table.Load()
	if x == 0 || t == nil {
		return nil
	}
	places := t.places(x)
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
	if x == 0 {
		return
	}
	at := s.find(x)
	if at == nil {
		at = s.made().weakest(x)
	}
	if is := likeness(at.Load()); is != x|level && is&levels <= level {
		at.Store(uint32(x | level))
	}
}

// made returns the table, which there is from now on.
func (s *sizes) made() *likeTable {
	if t := s.table.Load(); t != nil {
		return t
	}
	t := new(likeTable)
	s.table.Store(t)
	return t
}

// weakest returns the place that a newcomer may take.
func (t *likeTable) weakest(x likeness) *atomic.Uint32 {
	places := t.places(x)
	weakest := &places[x>>12%likeWays] // not always the same, if all are alike
	for i := range places {
		if at := &places[i]; likeness(at.Load())&levels < likeness(weakest.Load())&levels {
			weakest = at
		}
	}
	return weakest
}

// note notes of the replies to a request how large they were.
func (s *sizes) note(x likeness, size int64) {
	if size >= s.largeFrom() {
		s.raise(x, large)
		return
	}
	at := s.find(x)
	if at == nil {
		return
	}
	switch level := likeness(at.Load()) & levels; {
	case size >= unwantedSize && level < large: // it may have added up
	case level > once:
		at.Store(uint32(x | level - 1))
	default:
		at.Store(0)
	}
}

// answered notes of the replies to a request how large they were, of its kin too. wanted:
// its caller was there. Of a command alone it takes three large ones in a row: most are of
// small and of large values in turn.
func (s *sizes) answered(f features, size int64, wanted bool) {
	switch {
	case !wanted && size >= unwantedSize:
		size = max(size, largeSize)
	case size < s.largeFrom() && s.table.Load() == nil:
		return
	}
	s.note(f.request, size)
	s.note(f.key.like(), size)
	if size < s.largeFrom() {
		s.note(f.name.like(), size)
	} else {
		s.blame(f.name.like())
	}
}

// blame takes it one up.
func (s *sizes) blame(x likeness) { s.raise(x, min(s.level(x)+1, large)) }

// isLarge reports whether a large reply is to be expected.
func (s *sizes) isLarge(f features) bool {
	if s.table.Load() == nil {
		return false
	}
	for _, x := range f.likes() {
		if s.level(x) == large {
			return true
		}
	}
	return false
}

// foresee notes of the exchange whose replies are coming in how large they will be,
// as far as the server has said: whoever asks for the same meanwhile knows it, and if
// its caller has left nobody will read them to their end.
func (l *lane) foresee(f features) {
	if l.inbound.size+l.rest() >= l.group.sizes.largeFrom() {
		l.group.sizes.raise(f.request, large)
		l.group.sizes.raise(f.key.like(), large)
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
		if !s.reads || s.since != uint16(deaths) || s.rider.Load() == nil {
			continue
		}
		for _, x := range s.known.likes() {
			if !seen[x] {
				seen[x] = true
				l.group.sizes.blame(x)
				if l.group.sizes.level(x) == large {
					l.group.sizes.bounded.Store(true)
				}
			}
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
	s.table.Store(nil)
	s.bounded.Store(false)
}

// peerClosed reports whether the connection is dead because the peer has closed it, or
// the network has lost it: from here these are the same.
func (c *Conn) peerClosed() bool {
	dead := c.cause.Load()
	return dead != nil && (dead.reason == ClosePeer || dead.reason == CloseRead || dead.reason == CloseWrite)
}
