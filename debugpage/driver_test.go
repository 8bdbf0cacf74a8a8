package debugpage_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/debugpage"
	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
)

// A real driver's outage, from before it to after it: what the page says is what callers
// meet.
func TestAnOutageOfARealDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := testkit.NewFake()
		t.Cleanup(fake.Close)
		d := drivertest.New(t, driver.Config{Dial: fake.Dial, Logger: slog.New(slog.DiscardHandler)})
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: addr, MaxRetries: -1}))
		t.Cleanup(func() { _ = rdb.Close() })
		h := debugpage.Handler(debugpage.Source{Name: "shop", Nodes: d})
		ctx := t.Context()
		if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if html := page(t, h); !strings.Contains(html, "All well") {
			t.Fatal(plain(html))
		}

		fake.DownRefused()
		const callers = 40
		done := make(chan error, callers)
		for range callers {
			go func() { done <- rdb.Get(ctx, "k").Err() }()
		}
		time.Sleep(3 * time.Second) // of the bubble's time
		synctest.Wait()
		r := asJSON(t, h)
		if len(r.Findings) != 1 || r.Findings[0].Rule != "down" || !strings.Contains(r.Findings[0].Text, fmt.Sprintf("refused; %d requests wait", callers)) {
			t.Errorf("%+v", r.Findings)
		}
		if html := plain(page(t, h)); !strings.Contains(html, addr+" has been down for ") || !strings.Contains(html, "the last dial failed") {
			t.Error(html)
		}

		fake.Up()
		for range callers {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Second)
		if r := asJSON(t, h); len(r.Findings) != 1 || r.Findings[0].Rule != "flapping" {
			t.Errorf("after the outage: %+v", r.Findings)
		}
		time.Sleep(time.Second)
		r = asJSON(t, h)
		if !r.Well {
			t.Errorf("later: %+v", r.Findings)
		}
		happened := make(map[string]int)
		for _, e := range r.Sources[0].Clients[0].Nodes[0].Events {
			what, _, _ := strings.Cut(e.What, ",")
			happened[what] += e.Times
		}
		if happened["down"] != 1 || happened["up again"] != 1 || happened["a dial failed"] == 0 || happened["a connection was opened"] < 2 {
			t.Errorf("the page doesn't tell what has happened: %v", happened)
		}
	})
}

// What is in force and what is under way on each shared connection is known of any driver,
// without a word of its user's; its credentials aren't shown.
func TestADriverTellsWhatIsInForceAndUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := testkit.NewFake()
		t.Cleanup(fake.Close)
		cfg := driver.Config{Dial: fake.Dial, Logger: slog.New(slog.DiscardHandler), Retry: driver.RetryAll}
		cfg.Pool.SharedConns, cfg.Pool.SilenceAfter = 1, -1
		d := drivertest.New(t, cfg)
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: addr, PoolSize: 7, PipelinePoolSize: -1, Password: "hunter2"}))
		t.Cleanup(func() { _ = rdb.Close() })
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		fake.Freeze(true)
		done := make(chan error, 3)
		for range cap(done) {
			go func() { done <- rdb.Get(t.Context(), "k").Err() }()
			synctest.Wait()
		}
		h := debugpage.Handler(debugpage.Source{Name: "shop", Nodes: d})
		r := asJSON(t, h)
		if l := r.Sources[0].Clients[0].Nodes[0].Lanes; len(l) != 1 || l[0].InFlight != 3 {
			t.Errorf("shared connections: %+v", l)
		}
		html := plain(page(t, h))
		for _, want := range []string{"connection 13", "MaxOpenConns7", "SharedConns1", "SilenceAfteroff", "FailFastAfter5s", "Retryall", "Dialgiven"} {
			if !strings.Contains(html, want) {
				t.Errorf("no %q:\n%s", want, html)
			}
		}
		d.SetMaxOpenConns(9)
		if html := plain(page(t, h)); !strings.Contains(html, "MaxOpenConns9") || strings.Contains(html, "hunter2") {
			t.Error(html)
		}
		fake.Freeze(false)
		for range cap(done) {
			if err := <-done; err != nil && !errors.Is(err, redis.Nil) {
				t.Error(err)
			}
		}
	})
}

// What a real driver has gathered is shown, with its batches' mean size and the reasons.
func TestGatheringOfARealDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := testkit.NewFake()
		t.Cleanup(fake.Close)
		d := drivertest.New(t, driver.Config{Dial: fake.Dial, Logger: slog.New(slog.DiscardHandler), Gather: driver.GatherConfig{From: 2}})
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: addr}))
		t.Cleanup(func() { _ = rdb.Close() })
		if _, err := d.Gather(rdb); err != nil {
			t.Fatal(err)
		}
		fake.Freeze(true)
		var wg sync.WaitGroup
		for _, args := range [][]any{{"get", "k"}, {"get", "k"}, {"get", "k"}, {"get", "k"}, {"ping"}} {
			wg.Go(func() { _ = rdb.Do(t.Context(), args...).Err() })
			synctest.Wait()
		}
		fake.Freeze(false)
		wg.Wait()
		h := debugpage.Handler(debugpage.Source{Name: "shop", Nodes: d, Gathering: debugpage.GatherStats(d.GatherStats)})
		want := d.GatherStats()
		if want.Gathered == 0 || want.Direct["command"] != 1 {
			t.Fatalf("%+v", want)
		}
		mean := fmt.Sprintf("%d, of %.1f commands", want.Batches, float64(want.Gathered)/float64(want.Batches))
		if html := plain(page(t, h)); !strings.Contains(html, mean) || !strings.Contains(html, "command 1") || !strings.Contains(html, "clients withoutnone") {
			t.Error(html)
		}
		if body := ask(t, h, http.MethodGet, "/?format=json").Body.String(); !strings.Contains(body, fmt.Sprintf(`"gathered":%d`, want.Gathered)) && !strings.Contains(body, fmt.Sprintf(`"gathered": %d`, want.Gathered)) {
			t.Error(body)
		}
	})
}

// A manager's clients are shown by name, and what is wrong with a node that several of
// them use is said once.
func TestTheClientsOfAManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := testkit.NewFake()
		t.Cleanup(fake.Close)
		m, err := driver.NewManager(driver.Config{Dial: fake.Dial, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		for i, name := range []string{"orders", "users"} {
			if _, err := m.Add(t.Context(), name, fmt.Sprintf("redis://:hunter2@%s/%d", addr, i)); err != nil {
				t.Fatal(err)
			}
		}
		h := debugpage.Handler(debugpage.Source{Name: "fleet", Clients: debugpage.Clients(m.Status)})
		r := asJSON(t, h)
		if c := r.Sources[0].Clients; !r.Well || len(c) != 2 || c[0].Name != "orders" || c[1].Kind != "standalone" || len(c[1].Nodes) != 1 {
			t.Fatalf("%+v", r)
		}

		fake.DownRefused()
		_ = m.With(t.Context(), "orders", func(ctx context.Context, rdb redis.UniversalClient) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return rdb.Ping(ctx).Err()
		})
		r = asJSON(t, h)
		i := slices.IndexFunc(r.Findings, func(f finding) bool { return f.Rule == "down" })
		if i < 0 || !slices.Equal(r.Findings[i].Of, []string{"fleet: orders", "fleet: users"}) {
			t.Errorf("%+v", r.Findings)
		}
		body := ask(t, h, http.MethodGet, "/").Body.String()
		if html := plain(body); !strings.Contains(html, "client orders isn't healthy") || !strings.Contains(html, "(fleet: orders, fleet: users)") || strings.Contains(html, "hunter2") {
			t.Error(html)
		}
	})
}
