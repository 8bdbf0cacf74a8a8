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

// largeReply is the size of a reply to leave a lane for.
const largeReply = 200 << 10

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
		r.set("k", 10*largeReply)
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
func TestTheServerClosesThreeLanesForARequestsReply(t *testing.T) {
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
		if lost != 2 {
			t.Errorf("%d bystanders were lost, want those of the first two times", lost)
		}
		if n := t.stats().Lanes; n != 1 {
			t.Errorf("%d lanes", n)
		}
	})
}

// A request under which lanes died again and again has a connection to itself; when its
// reply is small it is free of suspicion.
func TestASuspectLeasesOnceIfItsReplyIsSmall(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		t.slow(100 * time.Millisecond)
		rdb := t.warm()
		get := func() error { return rdb.Get(t.Context(), "slow").Err() }
		for range 2 {
			done := t.blocked(get)
			t.f.ResetAll()
			time.Sleep(50 * time.Millisecond) // it was sent again
			t.f.ResetAll()
			if err := done(); err == nil {
				t.Error("it was sent a third time")
			}
		}
		rdb.Ping(t.Context()) // on a lane
		for _, want := range []int64{1, 0} {
			if n := t.leasesFor(func() {
				if err := get(); err != nil {
					t.Error(err)
				}
			}); n != want {
				t.Errorf("the next one leased %d times, want %d", n, want)
			}
		}
		if s := t.stats(); s.Resent != 2 || s.Unknown != 0 {
			t.Errorf("%d were sent again, %d are unknown", s.Resent, s.Unknown)
		}
	})
}

// What is lost with a lane goes on another one as a rule: a lease for each would be a
// storm of dials.
func TestALaneThatDiesCostsNoStormOfDials(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		t.f.Handle("GET", func(*testkit.FakeConn, []string) []byte {
			time.Sleep(50 * time.Millisecond)
			return testkit.ReplyBulk("v")
		})
		rdb := t.warm()
		before := t.stats().Dials
		for range 5 {
			if n := t.leasesFor(func() {
				var wg sync.WaitGroup
				for i := range 10 {
					wg.Go(func() { t.get(rdb, fmt.Sprint(i), 1) })
				}
				time.Sleep(25 * time.Millisecond)
				t.f.ResetAll()
				wg.Wait()
			}); n != 0 {
				t.Errorf("%d of 10 requests leased a connection", n)
			}
		}
		if n := t.stats().Dials - before; n != 5 {
			t.Errorf("%d dials for 5 lanes that died", n)
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
		if n := t.leasesFor(func() { t.get(rdb, "k", 1) }); n != 1 {
			t.Errorf("leased %d times", n)
		}
		if n := t.leasesFor(func() { t.get(rdb, "k", 1) }); n != 0 {
			t.Errorf("small again it leased %d times", n)
		}
	})
}

// With one connection for all, a lane and a lease take turns.
func TestInAFullPoolALargeReplyHasItsTurn(t *testing.T) {
	cfg := one()
	cfg.Pool.SharedConns = 1
	inLab(t, cfg, func(t *lab) {
		t.large().set("k", largeReply)
		rdb := t.warm()
		t.get(rdb, "k", largeReply)
		for range 3 {
			if n := t.leasesFor(func() { t.get(rdb, "k", largeReply) }); n != 1 {
				t.Errorf("the large one leased %d times", n)
			}
			if n := t.leasesFor(func() { t.get(rdb, "small", 1) }); n != 0 {
				t.Errorf("the small one leased %d times", n)
			}
		}
		if n := t.stats().Dials; n != 1 {
			t.Errorf("%d dials", n)
		}
	})
}

// A request that others' leases leave no room for waits for one of them.
func TestALargeReplyWaitsForALease(t *testing.T) {
	cfg := one()
	inLab(t, cfg, func(t *lab) {
		t.large().set("k", largeReply)
		rdb := t.warm()
		t.get(rdb, "k", largeReply)
		holder := t.handle()
		holder.do("WATCH x", "+OK")
		done := t.blocked(func() error { return rdb.Get(t.Context(), "k").Err() })
		if n := t.stats().Waiting; n != 1 {
			t.Errorf("%d wait", n)
		}
		holder.do("UNWATCH", "+OK")
		if err := done(); err != nil {
			t.Error(err)
		}
	})
}

// A part of a pipeline stays on the lane of what went before it, whose replies it would
// have to wait for.
func TestAPartOfAPipelineStays(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		t.large().set("k", largeReply)
		v := t.handle()
		v.send("GET k")
		v.wantValue(largeReply)
		v.send("ECHO x")
		if n := t.leasesFor(func() { v.send("GET k") }); n != 0 {
			t.Errorf("leased %d times", n)
		}
		v.want("$1 x")
		v.wantValue(largeReply)
	})
}

// What writes leaves too when its replies are large, and runs once.
func TestAWriteLeavesForItsLargeReply(t *testing.T) {
	inLab(t, oneLane(), func(t *lab) {
		runs := 0
		t.f.Handle("EVAL", func(*testkit.FakeConn, []string) []byte {
			runs++
			return testkit.ReplyBulk(strings.Repeat("v", largeReply))
		})
		v := t.handle()
		v.send("EVAL script 0")
		v.wantValue(largeReply)
		if n := t.leasesFor(func() { v.send("EVAL script 0"); v.wantValue(largeReply) }); n != 1 || runs != 2 {
			t.Errorf("leased %d times, ran %d times", n, runs)
		}
	})
}

// stalling is a writer whose first Write takes longer than a reply may.
type stalling struct {
	strings.Builder
	stall time.Duration
}

func (w *stalling) Write(p []byte) (int, error) {
	time.Sleep(w.stall)
	w.stall = 0
	return w.Builder.Write(p)
}

// What has come of a reply that its caller has begun to take is there for it when its time is
// over, as in go-redis's own buffer on the stock pool, whose handles here have a small one.
func TestTheRestOfAReplyThatHasComeCanBeTakenLate(t *testing.T) {
	bothWays(t, func(t *testing.T, shared int) {
		inLab(t, driver.Config{Pool: pooler.Config{SharedConns: shared}}, func(t *lab) {
			rdb := redis.NewClient(t.d.Options(&redis.Options{Addr: labAddr, ReadTimeout: time.Second}))
			defer rdb.Close()
			for _, size := range []int{500, 10_000, 30_000} {
				value := strings.Repeat("x", size)
				if err := rdb.Set(t.Context(), "k", value, 0).Err(); err != nil {
					t.Fatal(err)
				}
				const stall = 1500 * time.Millisecond
				w, began := &stalling{stall: stall}, time.Now()
				if err := rdb.DoRawWriteTo(t.Context(), w, "GET", "k").Err(); err != nil || !strings.Contains(w.String(), value) {
					t.Errorf("%d bytes: %d were written, %v", size, w.Len(), err)
				}
				if took := time.Since(began); took != stall {
					t.Errorf("%d bytes took %s", size, took)
				}
				if v, err := rdb.Get(t.Context(), "k").Result(); err != nil || v != value {
					t.Errorf("the next reply: %d bytes, %v", len(v), err)
				}
			}
		})
	})
}
