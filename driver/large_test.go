package driver_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// Sizes of replies: what is worth leaving for if that costs no wait, and in any case.
const (
	largeReply = 200 << 10
	hugeReply  = 2 << 20
)

// oneLane is a configuration in which all that shares does so on one connection.
func oneLane() driver.Config { return driver.Config{Pool: pooler.Config{SharedConns: 1}} }

// replies are what a server answers to GETs.
type replies struct {
	mu    sync.Mutex
	sizes map[string]int
	after time.Duration
}

func (r *replies) set(key string, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sizes[key] = size
}

// large makes the server answer GETs with values of the sizes that are set; others
// are of one byte.
func (l *lab) large() *replies {
	r := &replies{sizes: make(map[string]int)}
	l.f.Handle("GET", func(_ *testkit.FakeConn, args []string) []byte {
		r.mu.Lock()
		size, after := max(1, r.sizes[args[1]]), r.after
		r.mu.Unlock()
		if size > 1 {
			time.Sleep(after)
		}
		return testkit.ReplyBulk(strings.Repeat("v", size))
	})
	return r
}

// leasesFor is how many requests leased a connection while f ran.
func (l *lab) leasesFor(f func()) int64 {
	l.Helper()
	before := l.stats().Leased
	f()
	return l.stats().Leased - before
}

// warm returns a client that has a lane.
func (l *lab) warm() *redis.Client {
	l.Helper()
	rdb := l.client()
	if err := rdb.Ping(l.Context()).Err(); err != nil {
		l.Fatal(err)
	}
	return rdb
}

// wantValue reads a value of that size.
func (v *virtual) wantValue(size int) {
	v.l.Helper()
	v.want(fmt.Sprintf("$%d %s", size, strings.Repeat("v", size)))
}

// get reads a value of that size.
func (l *lab) get(rdb *redis.Client, key string, size int) {
	l.Helper()
	if v, err := rdb.Get(l.Context(), key).Result(); err != nil || len(v) != max(1, size) {
		l.Errorf("GET %s: %d bytes, %v; want %d", key, len(v), err, size)
	}
}

func TestARequestThatIsKnownForItsLargeReplyDelaysNobody(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		t.large().set("k", largeReply)
		a, b := t.handle(), t.handle()
		b.do("ECHO x", "$1 x")
		if n := t.leasesFor(func() { a.send("GET k"); a.wantValue(largeReply) }); n != 0 {
			t.Errorf("the first one leased %d times", n)
		}
		if n := t.leasesFor(func() { a.send("GET k") }); n != 1 {
			t.Errorf("the second one leased %d times", n)
		}
		b.do("ECHO x", "$1 x") // nobody has read a's reply
		a.wantValue(largeReply)
	})
}

func TestAPipelineIsKnownForAllItsRepliesTogether(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		t.large().set("k", largeReply/8)
		rdb := t.warm()
		pipeline := func() {
			if _, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
				for range 8 {
					p.Get(t.Context(), "k")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
		if n := t.leasesFor(pipeline); n != 0 {
			t.Errorf("the first one leased %d times", n)
		}
		if n := t.leasesFor(pipeline); n != 1 {
			t.Errorf("the second one leased %d times", n)
		}
		if n := t.leasesFor(func() { t.get(rdb, "k", largeReply/8) }); n != 0 {
			t.Errorf("a single one leased %d times", n)
		}
	})
}

func TestAReplyThatWasGivenUpIsKnownWhenItComes(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		r := t.large()
		r.set("k", hugeReply)
		r.after = time.Second
		a := t.handle()
		a.send("GET k")
		a.expire(10 * time.Millisecond)
		a.close()
		time.Sleep(2 * time.Second)
		t.handle().do("ECHO x", "$1 x") // behind the late reply
		r.after = 0
		b := t.handle()
		if n := t.leasesFor(func() { b.send("GET k") }); n != 1 {
			t.Errorf("leased %d times", n)
		}
		t.handle().do("ECHO x", "$1 x")
	})
}

// A server closes a connection for its replies without having sent any.
func TestTheServerClosesALaneOnceForARequestsReply(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		t.f.Handle("GET", func(c *testkit.FakeConn, _ []string) []byte {
			time.Sleep(100 * time.Millisecond)
			c.CloseNow()
			return nil
		})
		rdb := t.warm()
		rdb.Incr(t.Context(), "n")
		lost := 0
		for range 5 {
			var wg sync.WaitGroup
			wg.Go(func() { _ = rdb.Get(t.Context(), "k").Err() })
			wg.Go(func() {
				time.Sleep(50 * time.Millisecond)
				if rdb.Incr(t.Context(), "n").Err() != nil {
					lost++
				}
			})
			wg.Wait()
		}
		if lost != 1 {
			t.Errorf("%d bystanders were lost, want that of the first time", lost)
		}
		if n := t.stats().Lanes; n != 1 {
			t.Errorf("%d lanes", n)
		}
	})
}

// A request that was under way when a lane died, and had a small reply, is free of
// suspicion with the next one.
func TestASuspicionEndsWithASmallReply(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		t.slow(100 * time.Millisecond)
		rdb := t.warm()
		get := func() {
			if err := rdb.Get(t.Context(), "slow").Err(); err != nil {
				t.Error(err)
			}
		}
		if n := t.leasesFor(func() {
			var wg sync.WaitGroup
			wg.Go(get)
			time.Sleep(50 * time.Millisecond)
			t.f.ResetAll()
			wg.Wait()
		}); n != 1 {
			t.Errorf("it was sent again on %d leases", n)
		}
		if n := t.leasesFor(get); n != 0 {
			t.Errorf("the next one leased %d times", n)
		}
	})
}

// An outage is the node's and no request's.
func TestNobodyIsSuspectedForAnOutage(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		t.f.Handle("EVAL", func(*testkit.FakeConn, []string) []byte {
			time.Sleep(100 * time.Millisecond)
			return testkit.ReplyInt(1)
		})
		rdb := t.warm()
		eval := func() error { return rdb.Eval(t.Context(), "script", nil).Err() }
		done := make(chan error)
		go func() { done <- eval() }()
		time.Sleep(50 * time.Millisecond)
		t.f.Down(nil)
		t.wantErr(<-done, pooler.ErrUnknownOutcome)
		go func() { done <- rdb.Ping(t.Context()).Err() }() // meets the outage
		time.Sleep(50 * time.Millisecond)
		t.f.Up()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := t.leasesFor(func() {
			if err := eval(); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("leased %d times", n)
		}
	})
}

func TestALargeReplyIsKnownWhileItComes(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		t.large().set("k", largeReply)
		a, b := t.handle(), t.handle()
		a.send("GET k")
		a.wantLine("$")
		if n := t.leasesFor(func() { b.send("GET k") }); n != 1 {
			t.Errorf("leased %d times", n)
		}
	})
}

func TestACommandOfManyLargeRepliesLeavesAndComesBack(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		r := t.large()
		rdb := t.warm()
		read := func(size, times int) func() {
			return func() {
				for i := range times {
					key := fmt.Sprintf("%d of %d", i, size)
					r.set(key, size)
					t.get(rdb, key, size)
				}
			}
		}
		read(largeReply, 16)()
		if n := t.leasesFor(func() { r.set("new", largeReply); t.get(rdb, "new", largeReply) }); n != 1 {
			t.Errorf("one more of another key leased %d times", n)
		}
		if n := t.leasesFor(func() { _ = rdb.Set(t.Context(), "x", "y", 0).Err() }); n != 0 {
			t.Errorf("another command leased %d times", n)
		}
		read(0, 64)()
		if n := t.leasesFor(read(1, 16)); n != 0 {
			t.Errorf("16 small ones leased %d times", n)
		}
	})
}

// Some callers of one command read large replies, always the same: the others, who
// read small ones, stay.
func TestAFewLargeKeysDriveNobodyElseAway(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		r := t.large()
		rdb := t.warm()
		r.set("k", largeReply)
		for i := range 100 {
			t.get(rdb, "k", largeReply)
			if n := t.leasesFor(func() { t.get(rdb, fmt.Sprint("small", i), 1) }); n != 0 {
				t.Fatalf("small one %d leased", i)
			}
		}
	})
}

func TestARequestComesBackWhenItsReplyIsSmallAgain(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		r := t.large()
		rdb := t.warm()
		r.set("k", largeReply)
		t.get(rdb, "k", largeReply)
		r.set("k", 1)
		for range 2 {
			if n := t.leasesFor(func() { t.get(rdb, "k", 1) }); n != 1 {
				t.Errorf("leased %d times", n)
			}
		}
		if n := t.leasesFor(func() { t.get(rdb, "k", 1) }); n != 0 {
			t.Errorf("small again it leased %d times", n)
		}
	})
}

func TestInAFullPoolALargeReplyRidesAndAHugeOneWaits(t *testing.T) {
	cfg := oneLane()
	cfg.Pool.MaxOpenConns = 2
	inLab(t, cfg, func(t *lab) {
		r := t.large()
		r.set("k", largeReply)
		r.set("kk", hugeReply)
		rdb := t.warm()
		t.get(rdb, "k", largeReply)
		t.get(rdb, "kk", hugeReply)
		holder := t.handle()
		holder.do("WATCH x", "+OK")
		if n := t.leasesFor(func() { t.get(rdb, "k", largeReply) }); n != 0 {
			t.Errorf("the large one leased %d times", n)
		}
		done := t.blocked(func() error { return rdb.Get(t.Context(), "kk").Err() })
		if n := t.stats().Waiting; n != 1 {
			t.Errorf("%d wait", n)
		}
		holder.do("UNWATCH", "+OK")
		if err := done(); err != nil {
			t.Errorf("the huge one: %v", err)
		}
	})
}

// A part of a pipeline leaves although what went before it rides.
func TestAPartOfAPipelineLeaves(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		t.large().set("k", largeReply)
		v := t.handle()
		v.send("GET k")
		v.wantValue(largeReply)
		v.send("ECHO x")
		if n := t.leasesFor(func() { v.send("GET k") }); n != 1 {
			t.Errorf("leased %d times", n)
		}
		t.handle().do("ECHO y", "$1 y")
		v.want("$1 x")
		v.wantValue(largeReply)
	})
}
