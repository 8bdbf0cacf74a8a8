package pooler_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// gauges are the fields of Stats that go up and down, of those that are counts or
// durations.
var gauges = []string{"InFlight", "OldestWaiter", "OldestExchange"}

// grown are the counters of a snapshot, those with reasons and what is made of
// several among them.
func grown(s *pooler.Stats) map[string]int64 {
	all := map[string]int64{"dials that succeeded": s.Dials - s.DialErrors - int64(s.Dialing)}
	v := reflect.ValueOf(*s)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).Kind() == reflect.Int64 && !slices.Contains(gauges, name) {
			all[name] = v.Field(i).Int()
		}
	}
	for reason, n := range s.Closes {
		all["Closes "+string(reason)] = n
	}
	for reason, n := range s.Pins {
		all["Pins "+reason] = n
	}
	return all
}

// auditor looks at a pool's counters again and again: none ever goes back, and the
// sum is right at each moment.
type auditor struct {
	*testing.T
	pool  *pooler.Pool
	last  map[string]int64
	looks int
}

func (a *auditor) look() (s pooler.Stats) {
	a.Helper()
	s = a.pool.Stats()
	a.looks++
	now := grown(&s)
	for name, before := range a.last {
		if now[name] < before {
			a.Errorf("look %d: %s has gone from %d to %d", a.looks, name, before, now[name])
		}
	}
	a.last = now
	if s.Admitted != s.Answered+s.Failed+s.Abandoned+s.InFlight || s.Admitted != s.Shared+s.Leased || s.InFlight < 0 {
		a.Errorf("look %d: admitted %d (shared %d, leased %d), but answered %d, failed %d, abandoned %d, in flight %d",
			a.looks, s.Admitted, s.Shared, s.Leased, s.Answered, s.Failed, s.Abandoned, s.InFlight)
	}
	return s
}

func (pt *tester) auditor() *auditor { return &auditor{T: pt.T, pool: pt.pool} }

// want compares the books, at a look.
func (a *auditor) want(want books) {
	a.Helper()
	a.look()
	(&tester{T: a.T, pool: a.pool}).wantBooks(want)
}

func TestARequestInPiecesIsOneUntilItsLastReplyIsReceived(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 0, func(pt *tester, h *hand) {
		a, sh, w := pt.auditor(), pt.share(pt.plain), h.wire(0)
		a.want(books{})
		first, other := pt.submit(sh, ask("GET", "0")), pt.ride(sh, ask("GET", "1"))
		w.hear(first, other)
		w.say(":0\r\n:1\r\n") // the other reads both
		other.wantReply(":1\r\n")
		a.want(books{Admitted: 2, InFlight: 1, Answered: 1})
		second := &ride{x: ask("GET", "2")}
		second.x.Follows = true
		if err := sh.Submit(first.rider, second.x); err != nil {
			t.Fatal(err)
		}
		w.hear(second)
		w.say(":2\r\n")
		a.want(books{Admitted: 2, InFlight: 1, Answered: 1})
		first.receive().wantReply(":0\r\n:2\r\n")
		a.want(books{Admitted: 2, Answered: 2})
		if err := sh.Submit(first.rider, ask("GET", "3")); err != nil { // that is another
			t.Fatal(err)
		}
		a.want(books{Admitted: 3, InFlight: 1, Answered: 2})
		first.rider.Close()
		a.want(books{Admitted: 3, Answered: 2, Abandoned: 1})
		if err := sh.Submit(first.rider, ask("GET", "4")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Submit for a caller that has left: %v", err)
		}
		a.want(books{Admitted: 3, Answered: 2, Abandoned: 1})
	})
}

func TestALostConnectionIsTheEndOfNoRequest(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 0, func(pt *tester, h *hand) {
		a, sh := pt.auditor(), pt.share(pt.plain)
		var rides []*ride
		for i := range 4 {
			rides = append(rides, pt.submit(sh, ask("GET", fmt.Sprint(i))))
		}
		w := h.wire(0)
		w.hear(rides...)
		rides[0].rider.Forgive() // nothing of what is under way was lost yet
		a.want(books{Admitted: 4, InFlight: 4})
		w.Reset()
		var p [10]byte
		for _, r := range rides {
			if _, _, err := r.rider.Receive(p[:], time.Time{}); !errors.Is(err, pooler.ErrLost) {
				t.Fatalf("Receive: %v", err)
			}
		}
		a.want(books{Admitted: 4, InFlight: 4})
		rides[0].rider.Forgive()
		rides[1].rider.Close()
		a.want(books{Admitted: 4, InFlight: 2, Failed: 2})
		sh.Again(rides[2].rider, pooler.Move)
		sh.Again(rides[3].rider, pooler.Resend)
		a.want(books{Admitted: 4, InFlight: 2, Failed: 2, Moved: 1, Resent: 1})
		sh = pt.share(pt.plain)
		if err := sh.Submit(rides[2].rider, rides[2].x); err != nil {
			t.Fatal(err)
		}
		a.want(books{Admitted: 4, InFlight: 2, Failed: 2, Moved: 1, Resent: 1})
		w = h.wire(1)
		w.hear(rides[2])
		w.say(":2\r\n")
		rides[2].receive().wantReply(":2\r\n")
		rides[3].rider.Forgive() // it doesn't go on after all
		a.want(books{Admitted: 4, Answered: 1, Failed: 3, Moved: 1, Resent: 1})
	})
}

func TestAWaitForASharedConnectionIsPartOfItsRequest(t *testing.T) {
	byHand(t, pooler.Config{MaxOpenConns: 1, SharedConns: 1, WaitTimeout: time.Second, SilenceAfter: -1}, 0, func(pt *tester, h *hand) {
		a := pt.auditor()
		c := pt.get(pt.plain)
		late, leaves, served := pooler.NewRider(), pooler.NewRider(), pooler.NewRider()
		ctx, leave := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wait := func(r *pooler.Rider, want error, limit time.Duration) {
			wg.Go(func() {
				_, err := pt.pool.Share(ctx, pooler.Request{Session: pt.plain, Rider: r, WaitTimeout: limit})
				if !errors.Is(err, want) {
					t.Errorf("Share: %v, want %v", err, want)
				}
				if err != nil {
					r.Close() // which is no second end
				}
			})
		}
		wait(late, pooler.ErrWaitTimeout, time.Second)
		wait(leaves, context.Canceled, time.Hour)
		pt.settle()
		a.want(books{Admitted: 3, InFlight: 3})
		pt.sleep(time.Second)
		a.want(books{Admitted: 3, InFlight: 2, Failed: 1})
		leaves.Close()
		a.want(books{Admitted: 3, InFlight: 1, Failed: 1, Abandoned: 1})
		leave()
		pt.settle()
		a.want(books{Admitted: 3, InFlight: 1, Failed: 1, Abandoned: 1})
		ctx = context.Background()
		wait(served, nil, time.Hour)
		pt.settle()
		pt.put(c)
		wg.Wait()
		a.want(books{Admitted: 4, InFlight: 1, Failed: 1, Abandoned: 1, Answered: 1})
		r := &ride{pt: pt, rider: served, x: ask("GET", "0"), size: 10}
		if err := pt.share(pt.plain).Submit(served, r.x); err != nil {
			t.Fatal(err)
		}
		w := h.wire(0)
		w.hear(r)
		w.say(":0\r\n")
		r.receive().wantReply(":0\r\n")
		a.want(books{Admitted: 4, Failed: 1, Abandoned: 1, Answered: 2})
	})
}

// What callers have under way is what the pool says, neither more nor less, while
// nothing moves.
func TestWhatIsInFlightIsWhatItsCallersHaveUnderWay(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: -1}, func(pt *tester) {
		a, sh := pt.auditor(), pt.share(pt.plain)
		pt.fake.Freeze(true)
		var rides []*ride
		for i := range 100 {
			rides = append(rides, pt.ride(sh, ask("ECHO", fmt.Sprint(i))))
			a.want(books{Admitted: int64(i + 1), InFlight: int64(i + 1)})
		}
		for i, r := range rides[:40] {
			r.rider.Close()
			a.want(books{Admitted: 100, InFlight: int64(99 - i), Abandoned: int64(i + 1)})
		}
		pt.fake.Freeze(false)
		pt.settle()
		a.want(books{Admitted: 100, Abandoned: 40, Answered: 60})
	})
}

// chaos is what callers do to a pool whose server is cut and frozen, and what they
// know of it themselves. A request is tried, then it has surely begun, then it is
// perhaps over, then surely: by itself, or since its caller has left.
type chaos struct {
	*testing.T
	pool                     *pooler.Pool
	session                  *pooler.Session
	tried, begun, near, over atomic.Int64
	answered, failed, left   atomic.Int64 // of over
	seen                     [9]atomic.Int64
	ended                    atomic.Bool // nobody begins anything more
}

// sawAll reports whether there was all that is to be seen.
func (c *chaos) sawAll() bool {
	for i := range c.seen {
		if c.seen[i].Load() == 0 {
			return false
		}
	}
	return true
}

// What is to be seen of chaos, or nothing was proven.
const (
	sawAgain = iota
	sawForgiven
	sawLostAndLeft
	sawNoRoom
	sawFollow
	sawLate
	sawInterrupt
	sawShareFail
	sawShareLeft
)

// audit compares the pool's counters with what the callers know, at one moment.
func (c *chaos) audit(a *auditor, callers int64) {
	begun, over := c.begun.Load(), c.over.Load()
	s := a.look()
	near, tried := c.near.Load(), c.tried.Load()
	ended := s.Answered + s.Failed + s.Abandoned
	if s.Admitted < begun || s.Admitted > tried || ended < over || ended > near || s.InFlight > callers {
		a.Errorf("admitted %d, want %d to %d; ended %d, want %d to %d; in flight %d of %d callers",
			s.Admitted, begun, tried, ended, over, near, s.InFlight, callers)
	}
}

// end notes how a request has ended.
func (c *chaos) end(how *atomic.Int64) {
	how.Add(1)
	c.over.Add(1)
}

// caller makes requests on lanes until all is over.
func (c *chaos) caller(rnd *rand.Rand) {
	for !c.ended.Load() && !c.Failed() {
		r := pooler.NewRider()
		for c.request(r, rnd) && !c.ended.Load() {
			continue
		}
		r.Close() // once more, when nothing is under way any more
	}
}

// request makes one request, and sees it through; it reports whether its rider can
// make another.
func (c *chaos) request(r *pooler.Rider, rnd *rand.Rand) bool {
	c.tried.Add(1)
	for {
		lanes, ok := c.share(r, rnd)
		if !ok {
			return true
		}
		c.near.Add(1)
		x := ask("ECHO", "tag", []string{"10", "10", "10", "20000"}[rnd.IntN(4)])
		x.Again, x.Deadline = rnd.IntN(2) == 0, time.Now().Add(time.Duration(1+rnd.IntN(20))*time.Millisecond)
		err := lanes.Submit(r, x)
		switch {
		case err == nil:
			c.near.Add(-1)
		case errors.Is(err, pooler.ErrNotShared):
			c.near.Add(-1)
			continue // the same request
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.seen[sawNoRoom].Add(1)
			c.end(&c.failed)
			return true
		default:
			c.Errorf("Submit: %v", err)
			return false
		}
		c.begun.Add(1)
		if rnd.IntN(3) == 0 {
			x.Follows, x.Deadline = true, time.Now().Add(time.Second)
			if lanes.Submit(r, x) == nil {
				c.seen[sawFollow].Add(1)
			}
		}
		again, usable := c.receive(r, rnd)
		if !again {
			return usable
		}
		c.seen[sawAgain].Add(1)
		c.near.Add(-1)
		c.begun.Add(-1) // it is the same, and will be noted once more
		lanes.Again(r, pooler.Again(rnd.IntN(2)))
	}
}

// share finds lanes. If there are none the request is over.
func (c *chaos) share(r *pooler.Rider, rnd *rand.Rand) (*pooler.Lanes, bool) {
	ctx, leave := context.WithTimeout(c.Context(), time.Duration(1+rnd.IntN(50))*time.Millisecond)
	defer leave()
	c.near.Add(1)
	lanes, err := c.pool.Share(ctx, pooler.Request{Session: c.session, Rider: r, WaitTimeout: time.Duration(1+rnd.IntN(50)) * time.Millisecond})
	switch {
	case err == nil:
		c.near.Add(-1)
		return lanes, true
	case errors.Is(err, context.DeadlineExceeded):
		c.seen[sawShareLeft].Add(1)
		c.end(&c.left)
	default:
		c.seen[sawShareFail].Add(1)
		c.end(&c.failed)
	}
	return nil, false
}

// receive receives until the request is over, or is to go on elsewhere.
func (c *chaos) receive(r *pooler.Rider, rnd *rand.Rand) (again, usable bool) {
	p := make([]byte, []int{10, 1000, 64 << 10}[rnd.IntN(3)])
	if rnd.IntN(8) == 0 {
		stop := time.AfterFunc(time.Duration(rnd.IntN(3000))*time.Microsecond, r.Interrupt)
		defer stop.Stop()
	}
	closing := false
	if rnd.IntN(8) == 0 {
		closing = true
		stop := time.AfterFunc(time.Duration(rnd.IntN(3000))*time.Microsecond, r.Close)
		defer stop.Stop()
	}
	c.near.Add(1)
	for {
		_, done, err := r.Receive(p, time.Now().Add(time.Duration(1+rnd.IntN(40))*time.Millisecond))
		switch {
		case done:
			c.end(&c.answered)
			return false, !closing
		case err == nil:
		case errors.Is(err, pooler.ErrInterrupted):
			c.seen[sawInterrupt].Add(1)
		case errors.Is(err, os.ErrDeadlineExceeded):
			if rnd.IntN(2) == 0 {
				continue // it reads on
			}
			c.seen[sawLate].Add(1)
			r.Close()
			c.end(&c.left)
			return false, false
		case errors.Is(err, net.ErrClosed):
			c.end(&c.left)
			return false, false
		case errors.Is(err, pooler.ErrLost):
			switch way := rnd.IntN(3); {
			case way == 0 && !closing:
				return true, true
			case way == 1:
				c.seen[sawForgiven].Add(1)
				r.Forgive()
			default:
				c.seen[sawLostAndLeft].Add(1)
				r.Close()
				closing = true
			}
			c.end(&c.failed)
			return false, !closing
		default:
			c.Errorf("Receive: %v", err)
			return false, false
		}
	}
}

// lessee makes requests on leases of its own.
func (c *chaos) lessee(rnd *rand.Rand) {
	for !c.ended.Load() {
		c.tried.Add(1)
		c.near.Add(1)
		conn, err := c.pool.Get(c.Context(), pooler.Request{Session: c.session, WaitTimeout: 20 * time.Millisecond})
		if err != nil {
			c.end(&c.failed)
			continue
		}
		c.begun.Add(1)
		time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
		how, o := &c.answered, pooler.Answered
		if rnd.IntN(3) == 0 {
			how, o = &c.failed, pooler.Unknown
		}
		c.pool.Put(conn, o)
		c.end(how)
	}
}

func TestCountersOnlyGrowAndAddUpAtEveryMomentOfChaos(t *testing.T) {
	const callers, lessees = 150, 2
	fake := testkit.NewFake()
	defer fake.Close()
	p, err := pooler.New(pooler.Node{Network: "tcp", Addr: addr, Dial: fake.Dial}, pooler.Config{
		MaxOpenConns: 3, SharedConns: 2, WaitTimeout: 20 * time.Millisecond, FailFastAfter: 30 * time.Millisecond, SilenceAfter: 20 * time.Millisecond,
		HealthCheckTimeout: 50 * time.Millisecond, HealthCheckInterval: 20 * time.Millisecond, ConnMaxLifetime: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &chaos{T: t, pool: p, session: pooler.NewSession()}
	a := &auditor{T: t, pool: p}
	var wg, looking sync.WaitGroup
	for i := range callers + lessees {
		rnd := rand.New(rand.NewPCG(uint64(i), 5))
		if i < callers {
			wg.Go(func() { c.caller(rnd) })
		} else {
			wg.Go(func() { c.lessee(rnd) })
		}
	}
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		for !c.ended.Load() {
			time.Sleep(time.Duration(rnd.IntN(50)) * time.Millisecond)
			fake.Freeze(true)
			time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond)
			if rnd.IntN(2) == 0 {
				fake.ResetAll()
			}
			fake.Freeze(false)
		}
	})
	wg.Go(func() {
		// For so long, and on a machine that is too busy for that until all was seen.
		time.Sleep(1750 * time.Millisecond)
		for limit := time.Now().Add(time.Minute); !c.sawAll() && !t.Failed() && time.Now().Before(limit); {
			time.Sleep(10 * time.Millisecond)
		}
		if err := p.Close(); err != nil { // with everything under way
			t.Errorf("Close: %v", err)
		}
		time.Sleep(250 * time.Millisecond)
		c.ended.Store(true)
	})
	stop := make(chan struct{})
	looking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if c.audit(a, callers+lessees); t.Failed() {
				return
			}
		}
	})
	wg.Wait()
	close(stop)
	looking.Wait()

	s := a.look()
	if tried, answered, others := c.tried.Load(), c.answered.Load(), c.failed.Load()+c.left.Load(); s.Admitted != tried || s.InFlight != 0 ||
		s.Answered != answered || s.Failed+s.Abandoned != others {
		t.Errorf("at the end: admitted %d of %d, in flight %d, answered %d of %d, failed or abandoned %d of %d",
			s.Admitted, tried, s.InFlight, s.Answered, answered, s.Failed+s.Abandoned, others)
	}
	for what := range c.seen {
		if c.seen[what].Load() == 0 {
			t.Errorf("what is counted by %d wasn't tried", what)
		}
	}
	t.Logf("%d looks; %d requests: %d answered, %d failed, %d left; seen %v; %s", a.looks, c.tried.Load(), c.answered.Load(),
		c.failed.Load(), c.left.Load(), fmt.Sprint(&c.seen), fmt.Sprint(s.Closes))
}
