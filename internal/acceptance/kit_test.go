package acceptance_test

import (
	"context"
	"errors"
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

// callers is the load of most of these tests, sockets the connections for it.
const (
	callers = 64
	sockets = 20
)

// dialCounter is a dialer that counts.
type dialCounter struct {
	dials, failed, now, most atomic.Int64
}

func (c *dialCounter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c.dials.Add(1)
	now := c.now.Add(1)
	defer c.now.Add(-1)
	raise(&c.most, now)
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		c.failed.Add(1)
	}
	return nc, err
}

// raise makes *to at least v.
func raise(to *atomic.Int64, v int64) {
	for {
		if old := to.Load(); v <= old || to.CompareAndSwap(old, v) {
			return
		}
	}
}

// way is how one combination of a test runs that is too dear to be run in all
// combinations both ways.
type way struct {
	kind     testkit.Kind
	user     string
	protocol int
	shared   int  // SharedConns
	gathers  bool // commands of several callers
}

func (w way) String() string {
	how := map[int]string{0: "shared", -1: "leased"}[w.shared]
	if w.gathers {
		how += ", gathered"
	}
	return strings.TrimLeft(fmt.Sprintf("%s %s RESP%d %s", w.kind, w.user, w.protocol, how), " ")
}

// side is one client under test, on the stock pool or on ours.
type side struct {
	name string
	rdb  *redis.Client
	d    *driver.Driver // nil for stock
	*dialCounter
}

// stockSide is go-redis by itself.
func stockSide(tb testing.TB, o redis.Options) side {
	s := side{name: "stock", dialCounter: new(dialCounter)}
	o.Dialer = s.dial
	s.rdb = redis.NewClient(&o)
	tb.Cleanup(func() { _ = s.rdb.Close() })
	return s
}

// ourSide is the same on everpool.
func ourSide(tb testing.TB, cfg driver.Config, o redis.Options) side {
	s := side{name: "everpool", dialCounter: new(dialCounter)}
	if cfg.Dial == nil {
		cfg.Dial = s.dial
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s.d = drivertest.New(tb, cfg)
	s.rdb = redis.NewClient(s.d.Options(&o))
	tb.Cleanup(func() { _ = s.rdb.Close() })
	return s
}

// gather has the client's commands run together, as soon as two callers are inside.
func (s side) gather(tb testing.TB) {
	tb.Helper()
	if _, err := s.d.Gather(s.rdb); err != nil {
		tb.Fatal(err)
	}
}

// gathering has two callers be enough.
var gathering = driver.GatherConfig{From: 2}

// stats are those of the only node.
func (s side) stats(tb testing.TB) pooler.Stats {
	tb.Helper()
	nodes := s.d.Nodes()
	if len(nodes) != 1 {
		tb.Fatalf("%d nodes, want 1", len(nodes))
	}
	return nodes[0].Stats
}

// settled waits until no request is in progress, and checks that each has ended
// exactly once.
func (s side) settled(tb testing.TB) pooler.Stats {
	tb.Helper()
	testkit.Await(tb, "all requests have ended", func() bool {
		st := s.stats(tb)
		return st.InFlight == 0 && st.Waiting == 0 && st.Draining == 0
	})
	st := s.stats(tb)
	if st.Admitted != st.Answered+st.Failed+st.Abandoned {
		tb.Errorf("%s: %d admitted, but %d answered + %d failed + %d abandoned", s.name, st.Admitted, st.Answered, st.Failed, st.Abandoned)
	}
	return st
}

// pause is for how long a fault or a load lasts; nothing is awaited with it.
func pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}

// long is d, or half of it in the second run of these tests, in which handles can't be
// refused.
func long(d time.Duration) time.Duration {
	if secondRun {
		return d / 2
	}
	return d
}

// tally is what the callers of one side have seen.
type tally struct {
	reads, failedReads    atomic.Int64
	incrs, unknown, never atomic.Int64 // never: failed, and told that it wasn't sent
	wrong                 atomic.Int64 // replies that belong to somebody else
	slowest, first        atomic.Int64 // nanoseconds; first: of the first success after arm
	armed                 atomic.Int64
	healed                atomic.Int64 // callers that have succeeded since arm

	mu     sync.Mutex
	errors map[string]int
}

// arm begins the wait for the first success from now on.
func (t *tally) arm() { t.armed.Store(time.Now().UnixNano()) }

func (t *tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.errors == nil {
		t.errors = make(map[string]int)
	}
	text := err.Error()
	for _, digit := range "0123456789" {
		text = strings.ReplaceAll(text, string(digit), "")
	}
	if len(text) > 110 {
		text = text[:110]
	}
	t.errors[text]++
}

func (t *tally) failures() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for text, n := range t.errors {
		fmt.Fprintf(&b, "\n    %6d x %s", n, text)
	}
	return b.String()
}

// call runs one call and notes how it went.
func (t *tally) call(f func() error) error {
	began := time.Now()
	err := f()
	took := int64(time.Since(began))
	raise(&t.slowest, took)
	if err != nil {
		t.fail(err)
	} else if armed := t.armed.Load(); armed != 0 && began.UnixNano() >= armed {
		t.first.CompareAndSwap(0, time.Now().UnixNano())
	}
	return err
}

// incr notes how an INCR ended, by what its caller was told.
func (t *tally) incr(err error) {
	switch {
	case err == nil:
		t.incrs.Add(1)
	case errors.Is(err, pooler.ErrUnknownOutcome):
		t.unknown.Add(1)
	default:
		t.never.Add(1)
	}
}

// checkCounter compares the counter with what the callers were told: nothing
// was lost, nothing ran twice.
func (t *tally) checkCounter(tb testing.TB, counter string) {
	tb.Helper()
	n, err := strconv.ParseInt(counter, 10, 64)
	if err != nil && counter != "(nil)" { // no INCR has run
		tb.Fatalf("counter: %v", err)
	}
	if acked, unknown := t.incrs.Load(), t.unknown.Load(); n < acked || n > acked+unknown {
		tb.Errorf("the counter is %d; allowed are %d acknowledged up to %d with the %d unknown", n, acked, acked+unknown, unknown)
	}
}

// repeat has n callers call f again and again until stop, or until the test has
// failed. Each counts its calls from its own number, so that not all do the same at
// a time.
func repeat(tb testing.TB, stop <-chan struct{}, n int, f func(id, i int)) *sync.WaitGroup {
	var wg sync.WaitGroup
	for id := range n {
		wg.Go(func() {
			for i := id; ; i++ {
				select {
				case <-stop:
					return
				case <-tb.Context().Done():
					return
				default:
					f(id, i)
				}
			}
		})
	}
	tb.Cleanup(wg.Wait) // before the clients are closed
	return &wg
}

// drive has n callers work until stop: each 8th call an INCR of the counter, the
// rest ECHOes of a payload that no other call has.
func (s side) drive(tb testing.TB, stop <-chan struct{}, n int, saw *tally) *sync.WaitGroup {
	ctx := context.Background()
	healed := make([]bool, n)
	return repeat(tb, stop, n, func(id, i int) {
		var err error
		if i%8 == 0 {
			err = saw.call(func() error { return s.rdb.Incr(ctx, "counter:"+s.name).Err() })
			saw.incr(err)
		} else {
			err = saw.call(func() error { return s.read(ctx, fmt.Sprintf("%s-%d-%d", s.name, id, i), saw) })
			saw.reads.Add(1)
			if err != nil {
				saw.failedReads.Add(1)
			}
		}
		if armed := saw.armed.Load(); err == nil && !healed[id] && armed != 0 && saw.first.Load() != 0 {
			healed[id] = true
			saw.healed.Add(1)
		}
	})
}

// read is one GET of the key that never changes, and one ECHO.
func (s side) read(ctx context.Context, payload string, t *tally) error {
	got, err := s.rdb.Echo(ctx, payload).Result()
	if err == nil && got != payload {
		t.wrong.Add(1)
	}
	if err != nil {
		return err
	}
	got, err = s.rdb.Get(ctx, "constant").Result()
	if err == nil && got != "value" {
		t.wrong.Add(1)
	}
	return err
}

// countSilences returns what counts how often a pool finds its node silent.
func countSilences(n *atomic.Int64) func(pooler.Event) {
	return func(ev pooler.Event) {
		if ev.Kind == pooler.EventSilent {
			n.Add(1)
		}
	}
}

// warm opens all the connections that the load will use. On a busy machine the short
// timeouts of some callers are over before the server comes to them.
func (s side) warm(tb testing.TB, n int) {
	tb.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			err := testkit.AwaitErr("a SET succeeds", func() bool {
				return s.rdb.Set(context.Background(), "constant", "value", 0).Err() == nil
			})
			if err != nil {
				tb.Errorf("%s: warm up: %v", s.name, err)
			}
		})
	}
	wg.Wait()
}

// grown waits until the pool has all connections that its callers' company asks for, which
// depends on the machine: what is dialed after that has another reason.
func (s side) grown(tb testing.TB) {
	tb.Helper()
	for dials := int64(-1); dials != s.dialCounter.dials.Load(); {
		dials = s.dialCounter.dials.Load()
		pause(500 * time.Millisecond)
	}
}

// split is what callers have seen whose reads and writes are told apart.
type split struct{ reads, writes tally }

// driveSplit has n callers work until stop: so many of 8 calls are INCRs of the
// counter, the rest ECHOes of a payload that no other call has.
func (s side) driveSplit(tb testing.TB, stop <-chan struct{}, n, writesOf8 int, saw *split) *sync.WaitGroup {
	return repeat(tb, stop, n, func(id, i int) {
		if i%8 < writesOf8 {
			saw.writes.incr(saw.writes.call(func() error { return s.rdb.Incr(context.Background(), "counter:"+s.name).Err() }))
		} else {
			s.echoOnce(saw, fmt.Sprintf("%d-%d", id, i))
		}
	})
}

// echoOnce is one read, with a payload that no other call has.
func (s side) echoOnce(saw *split, payload string) {
	err := saw.reads.call(func() error {
		got, err := s.rdb.Echo(context.Background(), payload).Result()
		if err == nil && got != payload {
			saw.reads.wrong.Add(1)
		}
		return err
	})
	saw.reads.reads.Add(1)
	if err != nil {
		saw.reads.failedReads.Add(1)
	}
}

func (saw *split) String() string {
	return fmt.Sprintf("%d reads, %d failed, slowest %v; %d INCR acknowledged, %d unknown, %d failed otherwise, slowest %v%s%s",
		saw.reads.reads.Load(), saw.reads.failedReads.Load(), time.Duration(saw.reads.slowest.Load()).Round(time.Millisecond),
		saw.writes.incrs.Load(), saw.writes.unknown.Load(), saw.writes.never.Load(), time.Duration(saw.writes.slowest.Load()).Round(time.Millisecond),
		saw.reads.failures(), saw.writes.failures())
}

// check wants no failed read, nobody else's reply, and a counter that is what
// the callers were told.
func (saw *split) check(t *testing.T, counter string) {
	t.Helper()
	if n := saw.reads.failedReads.Load(); n != 0 {
		t.Errorf("%d reads failed", n)
	}
	if n := saw.reads.wrong.Load(); n != 0 {
		t.Errorf("%d replies belong to other calls", n)
	}
	saw.writes.checkCounter(t, counter)
}
