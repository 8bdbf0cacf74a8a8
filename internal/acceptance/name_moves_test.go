package acceptance_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// namedAddr is what the callers know; only the test's resolver knows where it leads.
const namedAddr = "primary.test:6379"

// resolver leads every name to one address, as a name service does whose record changes.
type resolver struct{ addr atomic.Pointer[string] }

func (r *resolver) lead(to *testkit.Server) { r.addr.Store(&to.Addr) }

func (r *resolver) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, *r.addr.Load())
}

// writers are callers that increment, each a counter of its own.
type writers struct {
	name          string
	rdb           *redis.Client
	acked, failed [callers]atomic.Int64

	mu     sync.Mutex
	errors map[string]int
}

func (w *writers) key(id int) string { return fmt.Sprintf("%s:%d", w.name, id) }

// work has each caller write until stop is closed.
func (w *writers) work(wg *sync.WaitGroup, stop <-chan struct{}) {
	for id := range callers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := w.rdb.Incr(context.Background(), w.key(id)).Err(); err != nil {
					w.failed[id].Add(1)
					w.note(err)
				} else {
					w.acked[id].Add(1)
				}
				pause(2 * time.Millisecond)
			}
		})
	}
}

func (w *writers) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.errors == nil {
		w.errors = make(map[string]int)
	}
	w.errors[err.Error()]++
}

// served waits until each caller has had writes acknowledged from now on.
func (w *writers) served() error {
	var before [callers]int64
	for id := range callers {
		before[id] = w.acked[id].Load()
	}
	for id := range callers {
		// Two: the first may have been under way.
		if err := testkit.AwaitErr(w.key(id)+" is written to", func() bool { return w.acked[id].Load() > before[id]+1 }); err != nil {
			return err
		}
	}
	return nil
}

// worst is how many writes have failed for the caller that has had most of them.
func (w *writers) worst() (worst, all int64) {
	for id := range callers {
		worst, all = max(worst, w.failed[id].Load()), all+w.failed[id].Load()
	}
	return worst, all
}

func (w *writers) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	worst, all := w.worst()
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s  %d failed writes, at most %d of one caller", w.name, all, worst)
	for text, n := range w.errors {
		fmt.Fprintf(&b, "\n    %6d x %s", n, text)
	}
	return b.String()
}

// When a name leads to another server, since the one that it led to has been killed or
// has become a replica, a caller has one write fail at most, the one that was under way;
// and none runs twice.
func TestANameThatLeadsElsewhereCostsACallerOneWriteAtMost(t *testing.T) {
	testkit.Waits(t)
	for name, leave := range map[string]func(t *testing.T, r *resolver, from, to *testkit.Server){
		"killed": func(_ *testing.T, r *resolver, from, to *testkit.Server) {
			from.Kill()
			pause(200 * time.Millisecond) // so late comes the news
			r.lead(to)
		},
		// In this order: a connection that is dialed when the first write has been refused
		// leads to the new server.
		"demoted": func(t *testing.T, r *resolver, from, to *testkit.Server) {
			_, port, _ := strings.Cut(to.Addr, ":")
			r.lead(to)
			from.Do(t, "REPLICAOF", "127.0.0.1", port)
		},
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.BothWays(t, func(t *testing.T, shared int) {
				from, to := testkit.Start(t, testkit.Redis), testkit.Start(t, testkit.Redis)
				r := new(resolver)
				r.lead(from)
				d := drivertest.New(t, driver.Config{Dial: r.dial, Logger: slog.New(slog.DiscardHandler), Pool: pooler.Config{MaxOpenConns: sockets, SharedConns: shared, FailFastAfter: time.Minute}})
				ours := &writers{name: "everpool", rdb: redis.NewClient(d.Options(&redis.Options{Addr: namedAddr}))}
				stock := &writers{name: "stock", rdb: redis.NewClient(&redis.Options{Addr: namedAddr, Dialer: r.dial, PoolSize: sockets})}
				defer ours.rdb.Close()
				defer stock.rdb.Close()
				var wg sync.WaitGroup
				stop := make(chan struct{})
				ours.work(&wg, stop)
				stock.work(&wg, stop)
				err := ours.served()
				var before [callers]int64 // acknowledged by the first server
				for id := range callers {
					before[id] = ours.acked[id].Load()
				}
				if err == nil {
					leave(t, r, from, to)
					err = ours.served()
				}
				close(stop)
				wg.Wait()
				t.Logf("%v\n%v", ours, stock)
				if err != nil {
					t.Fatal(err)
				}
				if worst, _ := ours.worst(); worst > 1 {
					t.Errorf("%d writes of one caller have failed, want 1 at most", worst)
				}
				for id := range callers {
					n, err := strconv.ParseInt(to.Do(t, "GET", ours.key(id)), 10, 64)
					if most := ours.acked[id].Load() - before[id] + ours.failed[id].Load(); err != nil || n > most {
						t.Errorf("%s is %d at the new server, error %v; at most %d writes were made", ours.key(id), n, err, most)
					}
				}
			})
		})
	}
}
