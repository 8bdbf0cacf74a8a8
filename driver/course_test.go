package driver_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/wiring"
	"github.com/everpool/everpool/pooler"
)

// told are the courses of requests, by the names that their contexts have.
type told struct {
	mu  sync.Mutex
	all map[string][]wiring.Course
}

type callName struct{}

// named is the context of a call by that name.
func named(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, callName{}, name)
}

// Wire makes it an option.
func (w *told) Wire(c *wiring.Client) error {
	c.Courses = append(c.Courses, func(ctx context.Context, course wiring.Course) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.all == nil {
			w.all = make(map[string][]wiring.Course)
		}
		name, _ := ctx.Value(callName{}).(string)
		w.all[name] = append(w.all[name], course)
	})
	return nil
}

// take returns all that was told since it was called last.
func (w *told) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return fmt.Sprint(all)
}

// want checks all that was told since the last time.
func (w *told) want(t *testing.T, what, want string) {
	t.Helper()
	if got := w.take(); got != "map["+want+"]" {
		t.Errorf("%s: told are %s, want %s", what, got, want)
	}
}

// listened is a client of whose requests' courses w is told.
func (l *lab) listened(w *told, change ...func(*redis.Options)) (c *redis.Client, end func()) {
	l.Helper()
	c = l.client(change...)
	stop, err := l.d.Watch(c, w)
	if err != nil {
		l.Fatal(err)
	}
	return c, func() { _ = stop() }
}

// Each command is told of its own wait, by the context that it was called with and to the
// nanosecond, and has its own reply, whatever it is.
func TestACommandIsToldHowLongItsRequestHasWaited(t *testing.T) {
	for _, rq := range retriedRequests {
		t.Run(rq.name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				t.spoiled(rq.last, 0, nil)
				w := &told{}
				rdb, end := t.listened(w)
				call := func(name string) func() error {
					return func() error { return rq.call(named(t.Context(), name), rdb) }
				}
				if err := call("free")(); err != nil {
					t.Error(err)
				}
				w.want(t.T, "with a connection at hand", "")

				holder := t.handle()
				holder.do("WATCH k", "+OK")
				first := t.blocked(call("first"))
				time.Sleep(30 * time.Millisecond)
				second := t.blocked(call("second"))
				time.Sleep(40 * time.Millisecond)
				holder.do("UNWATCH", "+OK")
				for _, result := range []func() error{first, second} {
					if err := result(); err != nil {
						t.Error(err)
					}
				}
				w.want(t.T, "waiting", "first:[{70ms 0 0}] second:[{40ms 0 0}]")

				end()
				holder.do("WATCH k", "+OK")
				unheard := t.blocked(call("unheard"))
				time.Sleep(30 * time.Millisecond)
				holder.do("UNWATCH", "+OK")
				if err := unheard(); err != nil {
					t.Error(err)
				}
				w.want(t.T, "after the end", "")
			})
		})
	}
}

// What is told of single commands adds up to what the pool counts.
func TestWhatCommandsAreToldAddsUpToThePoolsNumbers(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 2}}, func(t *lab) {
		runs := t.spoiled("GET", 7, func(c *testkit.FakeConn) []byte { c.ResetNow(); return nil })
		w := &told{}
		rdb, _ := t.listened(w)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if i%10 == 9 {
					t.f.ResetAll()
				}
				rdb.Get(named(t.Context(), fmt.Sprint(i)), "k")
			})
		}
		wg.Wait()
		var sum wiring.Course
		for _, all := range w.all {
			for _, c := range all {
				sum.Waited += c.Waited
				sum.Moved += c.Moved
				sum.Resent += c.Resent
			}
		}
		s := t.stats()
		if sum.Resent == 0 || int64(sum.Resent) > s.Resent || int64(sum.Moved) > s.Moved || sum.Waited > s.WaitDuration {
			t.Errorf("told are %+v; the pool has waited %v, moved %d, resent %d; %d runs", sum, s.WaitDuration, s.Moved, s.Resent, runs.Load())
		}
	})
}

func TestACommandIsToldThatItsRequestWasMovedOrSentAgain(t *testing.T) {
	for _, rq := range retriedRequests {
		t.Run(rq.name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				t.spoiled(rq.last, 0, nil)
				w := &told{}
				rdb, _ := t.listened(w)
				rdb.Ping(t.Context())
				w.take()
				t.f.ResetAll()
				if err := rq.call(named(t.Context(), "a call"), rdb); err != nil {
					t.Error(err)
				}
				w.want(t.T, "moved", "a call:[{0s 1 0}]")
			})
		})
	}
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.spoiled("GET", 1, spoil["lost before the reply"])
		w := &told{}
		rdb, _ := t.listened(w)
		rdb.Ping(t.Context())
		w.take()
		if v, err := rdb.Get(named(t.Context(), "a call"), "k").Result(); err != nil || v != "7" {
			t.Errorf("%q, %v", v, err)
		}
		w.want(t.T, "sent again", "a call:[{0s 0 1}]")
	})
}

// A call that begins a session waits for the connection in its handshake. What the first
// call of all waits for is the node, in the dial of a handle, which has no caller.
func TestACommandIsToldOfTheWaitInItsHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := testkit.NewFake()
		t.Cleanup(f.Close)
		d := newDriver(t, driver.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			time.Sleep(30 * time.Millisecond)
			return f.Dial(ctx, network, addr)
		}})
		w := &told{}
		for _, name := range []string{"first", "other"} {
			rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr, ClientName: name}))
			t.Cleanup(func() { _ = rdb.Close() })
			if _, err := d.Watch(rdb, w); err != nil {
				t.Fatal(err)
			}
			if err := rdb.Set(named(t.Context(), name), "k", "v", 0).Err(); err != nil {
				t.Error(err)
			}
		}
		w.want(t, "the first calls", "other:[{30ms 0 0}]")
	})
}

// What a ring's shards, or a cluster's nodes, go through is told in the context of the
// operation, by those that there are and those to come.
func TestACommandOfARingIsToldOfItsShardsWait(t *testing.T) {
	inLab(t, one(), func(t *lab) {
		ring := t.ring(&redis.RingOptions{Addrs: shardsAt(0, 1)})
		w := &told{}
		if _, err := t.d.Watch(ring, w); err != nil {
			t.Fatal(err)
		}
		ring.Ping(t.Context())
		w.take()
		holder := t.handle()
		holder.do("WATCH k", "+OK")
		result := t.blocked(func() error { return ring.Set(named(t.Context(), "a call"), "k", "v", 0).Err() })
		time.Sleep(30 * time.Millisecond)
		holder.do("UNWATCH", "+OK")
		if err := result(); err != nil {
			t.Error(err)
		}
		w.want(t.T, "a shard", "a call:[{30ms 0 0}]")
	})
}

// A listener that panics costs the command nothing.
func TestAListenerThatPanicsIsLeftBehind(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		rdb := t.client()
		if _, err := t.d.Watch(rdb, panicking{}); err != nil {
			t.Fatal(err)
		}
		t.waitedGet(rdb)
	})
}

type panicking struct{}

func (panicking) Wire(c *wiring.Client) error {
	c.Courses = append(c.Courses, func(context.Context, wiring.Course) { panic("of the test") })
	return nil
}

// A push where none is expected would be taken for a reply. So a client that doesn't read
// pushes, or not by go-redis's own processor, gets none; nor does one that was made of the
// same options and speaks RESP2.
func TestWhoDoesNotReadPushesGetsNone(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*redis.Options)
	}{
		{"RESP2", func(o *redis.Options) { o.Protocol = 2 }},
		{"a processor of the user's", func(o *redis.Options) { o.PushNotificationProcessor = theUsers{t, push.NewProcessor()} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				w := &told{}
				rdb, _ := t.listened(w, c.change)
				t.waitedGet(rdb)
				w.want(t.T, c.name, "")
			})
		})
	}
	inBothLabs(t, one(), func(t *lab) {
		o := t.d.Options(&redis.Options{Addr: labAddr, MaxRetries: -1})
		rdb := redis.NewClient(o)
		defer func() { _ = rdb.Close() }()
		w := &told{}
		if _, err := t.d.Watch(rdb, w); err != nil {
			t.Fatal(err)
		}
		o.Protocol = 2
		other := redis.NewClient(o)
		defer func() { _ = other.Close() }()
		t.waitedGet(rdb)
		w.want(t.T, "RESP3", "a call:[{30ms 0 0}]")
		t.waitedGet(other)
		w.want(t.T, "RESP2 by the same options", "")
	})
}

// theUsers is a processor of the user's own, which gets no push of the driver's.
type theUsers struct {
	*testing.T
	push.NotificationProcessor
}

func (u theUsers) GetHandler(name string) push.NotificationHandler {
	u.Errorf("asked for the handler of %q", name)
	return nil
}

// waitedGet has the client wait for 30 ms, and checks what it gets.
func (l *lab) waitedGet(rdb *redis.Client) {
	l.Helper()
	l.slow(0)
	if v, err := rdb.Get(l.Context(), "k").Result(); err != nil || v != "k" {
		l.Errorf("%q, %v", v, err)
	}
	holder := l.handle()
	holder.do("WATCH k", "+OK")
	result := l.blocked(func() error {
		v, err := rdb.Get(named(l.Context(), "a call"), "k").Result()
		if v != "k" {
			l.Errorf("%q", v)
		}
		return err
	})
	time.Sleep(30 * time.Millisecond)
	holder.close()
	if err := result(); err != nil {
		l.Error(err)
	}
}

// A reader that takes a byte at a time gets the push whole, and the replies behind it.
func TestTheCourseIsOneFrameBeforeTheReplies(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		v, holder := t.behindHolder()
		sent := t.blocked(func() error { _, err := v.Write([]byte(frames("PING a", "PING b"))); return err })
		time.Sleep(time.Millisecond)
		holder.do("UNWATCH", "+OK")
		if err := sent(); err != nil {
			t.Fatal(err)
		}
		want := ">4\r\n+everpool:course\r\n:1000000\r\n:0\r\n:0\r\n$1\r\na\r\n$1\r\nb\r\n"
		if got := string(t.readBytes(v, len(want))); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// On a connection of pushes and messages the driver's own would be one of those.
func TestAConnectionOfPushesIsToldNoCourse(t *testing.T) {
	for request, reply := range map[string]string{"CLIENT TRACKING ON": "+OK\r\n", "SUBSCRIBE c": ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"} {
		t.Run(request, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				v, holder := t.behindHolder()
				t.f.HangDials(true)
				sent := t.blocked(func() error { _, err := v.Write([]byte(frames(request))); return err })
				time.Sleep(time.Millisecond)
				t.f.HangDials(false)
				holder.do("UNWATCH", "+OK")
				if err := sent(); err != nil {
					t.Fatal(err)
				}
				if got := string(t.readBytes(v, len(reply))); got != reply {
					t.Errorf("%q, want %q", got, reply)
				}
			})
		})
	}
}

// behindHolder returns a handle in RESP3, of a client that listens, and the one that holds
// the pool's only connection.
func (l *lab) behindHolder() (v, holder *virtual) {
	l.Helper()
	rdb, _ := l.listened(new(told))
	v = l.handleOf(rdb.Options())
	v.send("HELLO 3")
	for hello := ""; !strings.HasSuffix(hello, "$7\r\nmodules\r\n*0\r\n"); {
		hello += string(l.readBytes(v, 1))
	}
	holder = l.handle()
	holder.do("WATCH k", "+OK")
	return v, holder
}

// readBytes reads n bytes, each by a Read of its own.
func (l *lab) readBytes(c net.Conn, n int) []byte {
	l.Helper()
	all := make([]byte, n)
	for i := range all {
		if n, err := c.Read(all[i : i+1]); n != 1 || err != nil {
			l.Fatalf("%d, %v after %q", n, err, all[:i])
		}
	}
	return all
}
