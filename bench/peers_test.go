package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/everpool/everpool/internal/testkit"
)

func TestMain(m *testing.M) {
	logging.Disable()
	os.Exit(m.Run())
}

// startServer skips the test if there is no server, and fails it under CI.
func startServer(tb testing.TB, program string) *Server {
	tb.Helper()
	s, err := StartServer(context.Background(), program)
	switch {
	case errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "":
		tb.Skipf("no real server: %v", err)
	case err != nil:
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// newClient closes the client when the test is over.
func newClient(tb testing.TB, p Peer, setup Setup) Client {
	tb.Helper()
	c, err := p.New(setup)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return c
}

// Every client returns the values that were set, alone and in pipelines, to
// several goroutines at once.
func TestClientsReturnWhatWasSet(t *testing.T) {
	for _, program := range []string{"redis-server", "valkey-server"} {
		t.Run(program, func(t *testing.T) {
			s := startServer(t, program)
			for _, p := range Peers() {
				t.Run(p.Name, func(t *testing.T) {
					const goroutines, size = 8, 5000
					c := newClient(t, p, Setup{Addr: s.Addr, Goroutines: goroutines, ValueSize: size})
					var wg sync.WaitGroup
					for id := range goroutines {
						wg.Go(func() { roundTrips(t, c, id, size, p.Memory) })
					}
					wg.Wait()
				})
			}
		})
	}
}

// roundTrips checks values that no other goroutine has; of a client without a
// server only their length.
func roundTrips(t *testing.T, c Client, id, size int, lengthOnly bool) {
	ctx := t.Context()
	right := func(got, want string) bool { return got == want || lengthOnly && len(got) == len(want) }
	for i := range 50 {
		key := fmt.Sprintf("key:%d", id)
		value := fmt.Sprintf("%d.%d.", id, i)
		value += strings.Repeat("v", size-len(value))
		if err := c.Set(ctx, key, value); err != nil {
			t.Errorf("Set: %v", err)
			return
		}
		if got, err := c.Get(ctx, key); err != nil || !right(got, value) {
			t.Errorf("Get: %.20q (%d bytes), %v; want %.20q", got, len(got), err, value)
			return
		}
		later := strings.ToUpper(value)
		batch := []Command{{Key: key}, {Key: key, Value: later}, {Key: key}, {Key: key}}
		if err := c.Pipeline(ctx, batch); err != nil {
			t.Errorf("Pipeline: %v", err)
			return
		}
		if !right(batch[0].Got, value) || !right(batch[2].Got, later) || !right(batch[3].Got, later) {
			t.Errorf("Pipeline: %.10q, then %.10q and %.10q; want %.10q, then %.10q", batch[0].Got, batch[2].Got, batch[3].Got, value, later)
			return
		}
	}
}

// INCR counts, by every client that has a server.
func TestClientsCount(t *testing.T) {
	s := startServer(t, "redis-server")
	for _, p := range Peers() {
		c := newClient(t, p, Setup{Addr: s.Addr, Goroutines: 1, ValueSize: 1})
		for range 3 {
			if err := c.Incr(t.Context(), p.Name); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		}
		if got, err := c.Get(t.Context(), p.Name); err != nil || got != "3" && !p.Memory {
			t.Errorf("%s: the counter is %q, %v", p.Name, got, err)
		}
	}
}

// What goes on beside a client is there, and over when it is told to be.
func TestWhatGoesOnBeside(t *testing.T) {
	s := startServer(t, "redis-server")
	stock, err := FindPeer("stock")
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, stock, Setup{Addr: s.Addr, Goroutines: 1, ValueSize: 1})
	for beside, seen := range map[Beside]string{
		BesideScript:  "cmdstat_eval:",
		BesideBlocked: "cmdstat_blpop:",
		BesideLarge:   "cmdstat_get:",
	} {
		if err := beside.fill(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		end, err := beside.start(t.Context(), s, c)
		if err != nil {
			t.Fatal(err)
		}
		testkit.Await(t, string(beside), func() bool {
			info, err := s.process.Call(t.Context(), "INFO", "commandstats")
			return err == nil && strings.Contains(info, seen)
		})
		end()
	}
	if _, err := BesideBlocked.start(t.Context(), s, struct{ Client }{}); err == nil {
		t.Error("a client that can't wait for a list is taken")
	}
}

// A plan on a cluster is for clients that can do that.
func TestAPlanOnACluster(t *testing.T) {
	s, err := StartCluster(t.Context(), "redis-server", 3)
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skipf("no real server: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w, err := ParseWorkload("mixed-32")
	if err != nil {
		t.Fatal(err)
	}
	plan := Plan{Server: s, Cases: []Case{{w, 4}}, Rounds: 1, Time: 10 * time.Millisecond, Progress: t.Output()}
	for _, p := range Peers() {
		if p.Cluster {
			plan.Peers = append(plan.Peers, p)
		}
	}
	results, err := plan.Run(t.Context())
	if err != nil || len(results) != 1 || len(results[0].Rounds) != 1 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for i, r := range results[0].Rounds[0] {
		if r.Ops == 0 || r.Failed != 0 || r.Sockets < 3 {
			t.Errorf("%s: %d operations, %d failed (%v), %d sockets", plan.Peers[i].Name, r.Ops, r.Failed, r.Err, r.Sockets)
		}
	}
	plan.Peers = Peers()
	if _, err := plan.Run(t.Context()); err == nil {
		t.Error("clients of one server are taken")
	}
}

// The network's delay is in each operation.
func TestAPlanOnASlowNetwork(t *testing.T) {
	s := startServer(t, "redis-server")
	w, err := ParseWorkload("get-32")
	if err != nil {
		t.Fatal(err)
	}
	stock, err := FindPeer("stock")
	if err != nil {
		t.Fatal(err)
	}
	const trip = 20 * time.Millisecond
	plan := Plan{Server: s, Peers: []Peer{stock}, Cases: []Case{{w, 1}}, Rounds: 1, Time: trip, Network: trip, Progress: t.Output()}
	results, err := plan.Run(t.Context())
	if err != nil || len(results) != 1 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	if r := results[0].Rounds[0][0]; r.Failed != 0 || r.Elapsed < time.Duration(r.Ops)*trip {
		t.Errorf("%d operations (%v) in %v", r.Ops, r.Err, r.Elapsed)
	}
}

// A plan gives every client its turn in every round, and knows sockets and CPU.
func TestAPlanMeasuresEveryClient(t *testing.T) {
	s := startServer(t, "redis-server")
	w, err := ParseWorkload("mixed-1k")
	if err != nil {
		t.Fatal(err)
	}
	plan := Plan{Server: s, Peers: Peers(), Cases: []Case{{w, 4}}, Rounds: 2, Time: 20 * time.Millisecond, Progress: t.Output()}
	results, err := plan.Run(t.Context())
	if err != nil || len(results) != 1 || len(results[0].Rounds) != 2 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for _, round := range results[0].Rounds {
		for i, r := range round {
			if r.Ops == 0 || r.Failed != 0 || r.Elapsed < plan.Time || r.Latency.Count() != uint64(r.Ops) {
				t.Errorf("%s: %d operations, %d failed (%v), %v, %d timed", plan.Peers[i].Name, r.Ops, r.Failed, r.Err, r.Elapsed, r.Latency.Count())
			}
			if r.NoServer != plan.Peers[i].Memory || !r.NoServer && (r.Sockets < 1 || r.Sockets > 20) {
				t.Errorf("%s: %d sockets", plan.Peers[i].Name, r.Sockets)
			}
		}
	}
	for _, format := range []Format{FormatTable, FormatMarkdown, FormatCSV} {
		if err := Report(t.Output(), plan, results, "stock", format); err != nil {
			t.Error(err)
		}
	}
	if err := Report(io.Discard, plan, results, "stock", "xml"); err == nil {
		t.Error("a format that doesn't exist is taken")
	}
}

// A plan that is interrupted returns complete rounds only.
func TestAPlanCanBeInterrupted(t *testing.T) {
	s := startServer(t, "redis-server")
	w, err := ParseWorkload("get-32")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stock, err := FindPeer("stock")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	last := Peer{Name: "last", New: func(setup Setup) (Client, error) {
		if calls++; calls == 2 {
			cancel()
		}
		return newStock(setup)
	}}
	plan := Plan{Server: s, Peers: []Peer{stock, last}, Cases: []Case{{w, 2}, {w, 4}}, Rounds: 3, Time: 10 * time.Millisecond, Progress: t.Output()}
	results, err := plan.Run(ctx)
	if err != nil || len(results) != 1 || len(results[0].Rounds) != 1 || calls != 2 {
		t.Errorf("%d results after %d calls, %v", len(results), calls, err)
	}
}

// BenchmarkPeers is every workload by every client, b.N operations on all
// goroutines together. With -benchtime 1x it shows that all of them work; for
// comparisons there is cmd/peers, which lets the clients alternate.
func BenchmarkPeers(b *testing.B) {
	s := startServer(b, "redis-server")
	for _, name := range Workloads() {
		w, err := ParseWorkload(name)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.fill(context.Background(), w, BesideNothing); err != nil {
			b.Fatal(err)
		}
		for _, goroutines := range []int{1, 64} {
			for _, p := range Peers() {
				b.Run(fmt.Sprintf("workload=%s/goroutines=%d/client=%s", name, goroutines, p.Name), func(b *testing.B) {
					c := newClient(b, p, Setup{Addr: s.Addr, Goroutines: goroutines, ValueSize: w.Size})
					inParallel(b, c, w, goroutines)
				})
			}
		}
	}
}

// inParallel does b.N operations on so many goroutines, after one on each that
// isn't measured.
func inParallel(b *testing.B, c Client, w Workload, goroutines int) {
	ctx := context.Background()
	value := w.value()
	jobs := make([]*job, goroutines)
	var left atomic.Int64
	all := func(do func(*job) error) {
		var wg sync.WaitGroup
		for _, j := range jobs {
			wg.Go(func() {
				if err := do(j); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for id := range jobs {
		jobs[id] = newJob(c, w, value, id)
	}
	all(func(j *job) error { return j.do(ctx) })
	left.Store(int64(b.N))
	b.ReportAllocs()
	cpu := processCPU()
	b.ResetTimer()
	all(func(j *job) error {
		for left.Add(-1) >= 0 {
			if err := j.do(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	b.StopTimer()
	b.ReportMetric(float64((processCPU()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
}
