package pooler_test

import (
	"testing"

	"github.com/everpool/everpool/pooler"
)

// read is an exchange of one command that changes nothing, of a rider that can lease.
func read(args ...string) pooler.Exchange {
	x := again(args...)
	x.Reads, x.Leaves = true, true
	return x
}

// wantLarge says whether the request is refused as one of a large reply.
func (pt *tester) wantLarge(sh *pooler.Lanes, x pooler.Exchange, want bool) {
	pt.Helper()
	r := pt.ride(sh, x)
	if want {
		r.wantErr(pooler.ErrLarge)
		return
	}
	r.wantWaiting()
}

// die lets the peer close a lane with the requests under way, and returns the others.
func (h *hand) die(i int, how func(*lineEnd), requests ...pooler.Exchange) *pooler.Lanes {
	h.pt.Helper()
	sh := h.pt.share(h.pt.plain)
	w := h.wire(i)
	var rides []*ride
	for _, x := range requests {
		rides = append(rides, h.pt.ride(sh, x))
	}
	w.hear(rides...)
	how(w)
	for _, r := range rides {
		r.wantErr(pooler.ErrLost)
	}
	return h.pt.share(h.pt.plain)
}

// end ends the connections, so that no request is left.
func (h *hand) end() {
	h.pt.settle()
	for _, w := range h.wires {
		w.Reset()
	}
	h.pt.settle()
}

func closes(w *lineEnd) { _ = w.CloseWrite() }

// A server closes a connection for a reply that is too large for it, and sends nothing
// of that. Who was there twice is suspected, however many ask for the same.
func TestWhoSeesTwoLanesClosedRidesNoMore(t *testing.T) {
	for name, death := range map[string]struct {
		how   func(*lineEnd)
		x     pooler.Exchange
		twice bool // it is suspected after two
	}{
		"closed":                 {closes, read("GET", "k"), true},
		"reset":                  {func(w *lineEnd) { w.Reset() }, read("GET", "k"), true},
		"no RESP":                {func(w *lineEnd) { w.say("what?\r\n") }, read("GET", "k"), false},
		"one that may ride only": {closes, again("GET", "k"), false},
		"one that writes": {closes, func() pooler.Exchange {
			x := ask("INCR", "k")
			x.Leaves = true
			return x
		}(), false},
	} {
		t.Run(name, func(t *testing.T) {
			byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
				defer h.end()
				sh := h.die(0, death.how, death.x, death.x, death.x)
				pt.wantLarge(sh, death.x, false)
				h.wire(1).hear(&ride{x: death.x})
				death.how(h.wire(1))
				pt.settle()
				pt.wantLarge(pt.share(pt.plain), death.x, death.twice)
				other := death.x
				other.Request = read("GET", "another").Request
				pt.wantLarge(pt.share(pt.plain), other, false)
			})
		})
	}
}

func TestASmallReplyClearsWhoSawALaneClosed(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
		defer h.end()
		x := read("GET", "k")
		sh := h.die(0, closes, x)
		r := pt.ride(sh, x)
		h.wire(1).hear(r)
		h.wire(1).say(":1\r\n")
		r.wantReply(":1\r\n")
		sh = h.die(1, closes, x)
		pt.wantLarge(sh, x, false)
	})
}

// The rider that is owed replies stays where they come.
func TestWhatFollowsOnALaneStaysThere(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 1<<20, func(pt *tester, h *hand) {
		defer h.end()
		sh := pt.share(pt.plain)
		x := read("GET", "k")
		large := pt.ride(sh, x)
		h.wire(0).hear(large)
		h.wire(0).say(bigReply("large", "100000"))
		large.wantReply(bigReply("large", "100000"))
		pt.wantLarge(sh, x, true)
		r := pt.submit(sh, ask("ECHO", "x"))
		x.Follows = true
		if err := sh.Submit(r.rider, x); err != nil {
			t.Error(err)
		}
		r.receive().wantWaiting()
	})
}

// Pieces count together: an array of many small strings is as large as one string.
func TestALargeReplyIsKnownHoweverItComes(t *testing.T) {
	for name, reply := range map[string]struct {
		said  string // all of it, or its beginning
		large bool
	}{
		"a string":                  {bigReply("large", "65536"), true},
		"its beginning":             {bigReply("large", "65536")[:20], true},
		"a string that isn't large": {bigReply("large", "65500"), false},
		"many in an array":          {"*40\r\n" + repeated(bigReply("part", "2000"), 40), true},
		"most of these":             {"*40\r\n" + repeated(bigReply("part", "2000"), 35), true},
		"fewer":                     {"*20\r\n" + repeated(bigReply("part", "2000"), 20), false},
		"after a push":              {">2\r\n$1\r\na\r\n" + bigReply("push", "100000") + ":1\r\n", false},
	} {
		for caller, left := range map[string]bool{"waits": false, "has left": true} {
			t.Run(name+", whose caller "+caller, func(t *testing.T) {
				byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 1<<20, func(pt *tester, h *hand) {
					defer h.end()
					sh := pt.share(pt.plain)
					r := pt.ride(sh, read("GET", "k"))
					small := pt.ride(sh, read("GET", "small")) // has the reply read if its caller has left
					h.wire(0).hear(r, small)
					if left {
						pt.leave(r)
					}
					h.wire(0).say(reply.said)
					pt.wantLarge(sh, read("GET", "k"), reply.large)
				})
			})
		}
	}
}
