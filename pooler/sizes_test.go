package pooler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
// of that. A request under which three lanes have died is suspected, however many ask for
// the same.
func TestARequestUnderWhichThreeLanesDiedRidesNoMore(t *testing.T) {
	for name, death := range map[string]struct {
		how  func(*lineEnd)
		x    pooler.Exchange
		last bool // it is suspected after three
	}{
		"closed":  {closes, read("GET", "k"), true},
		"reset":   {func(w *lineEnd) { w.Reset() }, read("GET", "k"), true},
		"no RESP": {func(w *lineEnd) { w.say("what?\r\n") }, read("GET", "k"), false},
		"one that may ride only": {closes, func() pooler.Exchange {
			x := read("GET", "k")
			x.Leaves = false
			return x
		}(), false},
		"one that writes": {closes, func() pooler.Exchange {
			x := ask("INCR", "k")
			x.Leaves = true
			return x
		}(), false},
	} {
		t.Run(name, func(t *testing.T) {
			byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
				defer h.end()
				h.die(0, death.how, death.x, death.x, death.x)
				sh := h.die(1, death.how, death.x)
				pt.wantLarge(sh, death.x, false)
				h.wire(2).hear(&ride{x: death.x})
				death.how(h.wire(2))
				pt.settle()
				pt.wantLarge(pt.share(pt.plain), death.x, death.last)
				other := death.x
				other.Request = read("STRLEN", "k").Request
				pt.wantLarge(pt.share(pt.plain), other, false)
			})
		})
	}
}

// Where lanes die of what is asked, what others ask is kept apart that adds up.
func TestWhereLanesDieRepliesOfMediumSizeAreKeptApart(t *testing.T) {
	for deaths, want := range map[int]bool{2: false, 3: true} {
		byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
			defer h.end()
			for i := range deaths {
				h.die(i, closes, read("GET", "k"))
			}
			medium := strings.Repeat("x", 20<<10)
			reply := fmt.Sprintf("$%d\r\n%s\r\n", len(medium), medium)
			x := read("DUMP", "other")
			r := pt.ride(pt.share(pt.plain), x)
			h.wire(deaths).hear(r)
			h.wire(deaths).say(reply)
			r.wantReply(reply)
			pt.wantLarge(pt.share(pt.plain), x, want)
		})
	}
}

func TestASmallReplyClearsARequestUnderWhichALaneDied(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
		defer h.end()
		x := read("GET", "k")
		for i := range 2 {
			sh := h.die(2*i, closes, x)
			r := pt.ride(sh, x)
			h.wire(2*i + 1).hear(r)
			h.wire(2*i + 1).say(":1\r\n")
			r.wantReply(":1\r\n")
			h.die(2*i+1, closes, x)
			r = pt.ride(pt.share(pt.plain), x)
			h.wire(2*i + 2).hear(r)
			h.wire(2*i + 2).say(":1\r\n")
			r.wantReply(":1\r\n")
		}
		pt.wantLarge(pt.share(pt.plain), x, false)
	})
}

// So are all that ask for the same key, whatever the numbers.
func TestAKeyIsSuspectedUnderWhichThreeLanesDied(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
		defer h.end()
		for i := range 3 {
			h.die(i, closes, read("GETRANGE", "k", "0", fmt.Sprint(i)), read("GETRANGE", fmt.Sprint("other", i), "0", "1"))
			sh := pt.share(pt.plain) // what the command alone is suspected of is taken back
			r := pt.ride(sh, read("GETRANGE", fmt.Sprint("small", i), "0", "1"))
			h.wire(i + 1).hear(r)
			h.wire(i + 1).say(":1\r\n")
			r.wantReply(":1\r\n")
		}
		sh := pt.share(pt.plain)
		pt.wantLarge(sh, read("GETRANGE", "k", "0", "9"), true)
		pt.wantLarge(sh, read("GETRANGE", "other0", "0", "9"), false)
	})
}

// Lanes that die together die of something else.
func TestLanesThatDieTogetherCountOnce(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 4, SilenceAfter: time.Hour}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.load(sh, 4)
		pt.wantLanes(4)
		pt.fake.Freeze(true)
		x := read("GET", "k")
		var rides []*ride
		for range 4 { // each on a lane of its own
			rides = append(rides, pt.ride(sh, x))
			pt.settle()
		}
		pt.fake.ResetAll()
		pt.fake.Freeze(false)
		for _, r := range rides {
			r.wantErr(pooler.ErrLost)
		}
		r := pt.ride(pt.share(pt.plain), x)
		r.await()
		if r.err != nil {
			t.Errorf("the next one: %v", r.err)
		}
	})
}

// A server that dies closes all lanes, one after the other: what it was asked leaves one and
// meets its end on the next. Once it is back all that shares again.
func TestNothingIsSuspectedOfAServerThatWasAway(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, HealthCheckInterval: time.Second}, func(pt *tester) {
		x := read("GET", "k")
		for range 3 {
			sh := pt.share(pt.plain)
			pt.fake.Freeze(true)
			r := pt.ride(sh, x)
			pt.settle()
			pt.fake.ResetAll()
			r.wantErr(pooler.ErrLost)
			pt.fake.Freeze(false)
		}
		pt.wantLarge(pt.share(pt.plain), x, true)
		pt.outage(time.Second)
		r := pt.ride(pt.share(pt.plain), x)
		r.await()
		if r.err != nil {
			t.Error(r.err)
		}
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
		h.wire(0).say(bigReply("large", "200000"))
		large.wantReply(bigReply("large", "200000"))
		pt.wantLarge(sh, x, true)
		r := pt.submit(sh, ask("ECHO", "x"))
		x.Follows = true
		if err := sh.Submit(r.rider, x); err != nil {
			t.Error(err)
		}
		r.receive().wantWaiting()
	})
}

// Where each asks for other keys, and leaves before all of its reply has come, it is the
// command that is known after three.
func TestTheCommandIsKnownWhoseLargeRepliesNobodyWaitsFor(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 8<<20, func(pt *tester, h *hand) {
		defer h.end()
		for i := range 3 {
			sh, w := pt.share(pt.plain), h.wire(i)
			large := pt.ride(sh, read("MGET", fmt.Sprint("a", i), "b"))
			small := pt.ride(sh, again("GET", "small"))
			w.hear(large, small)
			pt.leave(large)
			w.say("*2\r\n" + bigReply("a", "3000000")[:1_100_000])
			small.wantLost(true)
		}
		sh := pt.share(pt.plain)
		pt.wantLarge(sh, read("GET", "k"), false)
		pt.wantLarge(sh, read("MGET", "c", "d"), true)
	})
}

// So are pipelines, by their first command and about how many there are.
func TestPipelinesAreKnownWhoseRepliesAreLargeTogether(t *testing.T) {
	of := func(key string, n int) pooler.Exchange {
		var all [][]string
		for i := range n {
			all = append(all, []string{"GET", fmt.Sprint(key, i)})
		}
		x := pipeline(all...)
		x.Again, x.Reads, x.Leaves = true, true, true
		return x
	}
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 8<<20, func(pt *tester, h *hand) {
		defer h.end()
		sh, w := pt.share(pt.plain), h.wire(0)
		for i := range 3 {
			r := pt.submit(sh, of(fmt.Sprint("a", i), 10))
			small := pt.ride(sh, again("GET", "small"))
			w.hear(r, small)
			pt.leave(r)
			w.say(repeated(bigReply("v", "30000"), 10) + ":1\r\n")
			small.wantReply(":1\r\n")
		}
		pt.wantLarge(sh, of("k", 12), true)
		pt.wantLarge(sh, of("k", 3), false)
		pt.wantLarge(sh, read("GET", "k"), false)
	})
}

// A request that has waited for a lane, and is refused there, goes on with a lease: it is
// one request.
func TestARequestThatIsRefusedAsLargeIsCountedOnce(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 1<<20, func(pt *tester, h *hand) {
		defer h.end()
		x := read("GET", "k")
		sh := pt.share(pt.plain)
		first := pt.ride(sh, x)
		h.wire(0).hear(first)
		h.wire(0).say(bigReply("large", "200000"))
		first.wantReply(bigReply("large", "200000"))
		pt.pool.Drain()
		pt.wantOpen(0)

		r := pooler.NewRider()
		sh, err := pt.pool.Share(pt.Context(), pooler.Request{Session: pt.plain, Rider: r}) // a lane is dialed
		if err == nil {
			err = sh.Submit(r, x)
		}
		pt.wantErr(err, pooler.ErrLarge)
		pt.wantCounts(2, 1)
		c, err := pt.tryGet(pooler.Request{Session: pt.plain, Rider: r})
		if err != nil {
			t.Fatal(err)
		}
		pt.wantCounts(2, 1)
		pt.put(c)
		pt.wantCounts(2, 0)
	})
}

// wantCounts says how many requests there were, and how many of them are under way.
func (pt *tester) wantCounts(admitted, inFlight int64) {
	pt.Helper()
	if s := pt.pool.Stats(); s.Admitted != admitted || s.InFlight != inFlight {
		pt.Errorf("%d requests, %d under way; want %d and %d", s.Admitted, s.InFlight, admitted, inFlight)
	}
}

// Pieces count together: an array of many small strings is as large as one string. Less is
// large if others have waited for it though its caller had left.
func TestALargeReplyIsKnownHoweverItComes(t *testing.T) {
	for name, reply := range map[string]struct {
		said            string // all of it, or its beginning
		large, unwanted bool
	}{
		"a string":                  {bigReply("large", "131072"), true, true},
		"its beginning":             {bigReply("large", "131072")[:20], true, true},
		"a string that isn't large": {bigReply("large", "131000"), false, true},
		"many in an array":          {"*80\r\n" + repeated(bigReply("part", "2000"), 80), true, true},
		"most of these":             {"*80\r\n" + repeated(bigReply("part", "2000"), 70), true, true},
		"the first of these":        {"*80\r\n" + bigReply("part", "2000"), true, true},
		"fewer":                     {"*40\r\n" + repeated(bigReply("part", "2000"), 40), false, true},
		"few":                       {"*8\r\n" + repeated(bigReply("part", "1900"), 8), false, false},
		"after a push":              {">2\r\n$1\r\na\r\n" + bigReply("push", "200000") + ":1\r\n", false, false},
	} {
		for caller, left := range map[string]bool{"waits": false, "has left": true} {
			t.Run(name+", whose caller "+caller, func(t *testing.T) {
				byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 1<<20, func(pt *tester, h *hand) {
					defer h.end()
					sh := pt.share(pt.plain)
					r := pt.ride(sh, read("GETRANGE", "k", "0", "-1"))
					small := pt.ride(sh, read("GET", "small")) // has the reply read if its caller has left
					h.wire(0).hear(r, small)
					if left {
						pt.leave(r)
					}
					h.wire(0).say(reply.said)
					pt.wantLarge(sh, read("GETRANGE", "k", "0", "-2"), reply.large || left && reply.unwanted)
				})
			})
		}
	}
}
