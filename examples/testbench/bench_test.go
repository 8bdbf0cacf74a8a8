package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/everpool/everpool/internal/testkit"
)

func TestMain(m *testing.M) {
	logging.Disable()
	// go-redis's own pool looks for a dead server once a second, closed or not.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// running is the program while it runs.
type running struct {
	t    *testing.T
	out  *output
	url  string
	stop context.CancelFunc
	done chan error
}

// start runs the program until stop is called, and waits for its page.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	b := &running{t: t, out: &output{}, stop: stop, done: make(chan error, 1)}
	go func() {
		b.done <- run(ctx, append([]string{"-listen", "127.0.0.1:0", "-wave", "20", "-timeout", "300ms"}, args...), b.out)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.out.String())
		}
	})
	testkit.Await(t, "the page's address is printed", func() bool {
		b.url = regexp.MustCompile(`http://[^/]+/`).FindString(b.out.String())
		return b.url != "" || len(b.done) > 0
	})
	return b
}

// end stops the program and returns its error.
func (b *running) end() error {
	b.stop()
	return <-b.done
}

func (b *running) request(method, path string, header ...string) (status int, body string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// entry is any entry of the journal.
type entry struct {
	Kind    string
	Fault   string
	By      string
	Error   string
	Drivers map[string]sample
	Verdict verdict
}

// events follows the page's events until they end, and calls each with every one.
func (b *running) events(each func(entry)) {
	b.t.Helper()
	res, err := http.Get(b.url + "events")
	if err != nil {
		b.t.Error(err)
		return
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var e entry
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				b.t.Errorf("%s: %v", data, err)
			}
			each(e)
		}
	}
}

// Both drivers go through every fault, by schedule and by button, and in the end every
// write is accounted for.
func TestARunEndsWithAVerdict(t *testing.T) {
	testkit.LongOnly(t)
	for _, server := range []string{"embedded", "redis"} {
		t.Run(server, func(t *testing.T) {
			if server == "redis" {
				testkit.Start(t, testkit.Redis).Close() // skips the test, or fails it
			}
			report := filepath.Join(t.TempDir(), "report.html")
			b := start(t, "-server", server, "-report", report, "-duration", "0",
				"-faults", "kill@500ms+300ms,freeze@1s+500ms,reset@1600ms,silence@1700ms,slow@1800ms+200ms")
			over := make(map[string]bool)
			pressed, worked := false, false
			var last entry
			b.events(func(e entry) {
				last = e
				switch e.Kind {
				case "faultOver":
					over[e.Fault+" by "+e.By] = true
					if e.Error != "" {
						t.Errorf("%s: %s", e.Fault, e.Error)
					}
				case "sample":
					for _, s := range e.Drivers {
						worked = worked || s.OK > 0 && s.P99 >= s.P50 && s.P50 > 0 && s.Conns.Used > 0 && s.Totals.Dials > 0
					}
				}
				if over["slow by schedule"] && !pressed {
					if status, text := b.request(http.MethodPost, "faults/reset"); status != http.StatusAccepted {
						t.Errorf("the button says %d %s", status, text)
					}
					pressed = true
				}
				if over["reset by button"] && e.Kind == "sample" {
					b.stop()
				}
			})
			if err := <-b.done; err != nil {
				t.Error(err)
			}
			for _, want := range []string{"kill by schedule", "freeze by schedule", "reset by schedule", "silence by schedule", "slow by schedule", "reset by button"} {
				if !over[want] {
					t.Errorf("there was no %s", want)
				}
			}
			if !worked {
				t.Error("no sample shows anything")
			}
			if last.Kind != "end" || !last.Verdict.Passed || len(last.Verdict.Drivers) != 2 {
				t.Errorf("the last event is %+v", last)
			}
			for name, d := range last.Verdict.Drivers {
				w := d.Writes
				if w.Acked == 0 || w.Found < w.Acked || name == driverEverpool && w.Found > w.Acked+w.Unknown {
					t.Errorf("%s: %+v", name, w)
				}
			}
			if !strings.Contains(b.out.String(), "messages published") {
				t.Error("the table in the terminal has no messages")
			}
			if !strings.Contains(b.out.String(), "Verdict: passed.") {
				t.Error("no verdict is printed")
			}
			wantReport(t, report)
		})
	}
}

// Replicas take over, when asked to and when their primary is killed, and nothing that
// was acknowledged is lost.
func TestReplicasTakeOver(t *testing.T) {
	testkit.Start(t, testkit.Redis).Close() // skips the test, or fails it
	for _, topology := range []string{topologyCluster, topologySentinel} {
		t.Run(topology, func(t *testing.T) {
			b := start(t, "-"+topology, "-server", "redis", "-faults", "none", "-duration", "0")
			left := []string{"failover", "kill"}
			idle := true
			var last entry
			b.events(func(e entry) {
				last = e
				switch {
				case e.Kind == "faultOver" && e.Error == "":
					left, idle = left[1:], true
				case e.Kind == "faultOver": // there was no replica yet that has all data
					if e.Error != errNoHeir.Error() {
						t.Errorf("%s: %s", e.Fault, e.Error)
						left = nil
					}
					idle = true
				case e.Kind == "sample" && len(left) == 0:
					b.stop()
				case e.Kind == "sample" && idle:
					status, _ := b.request(http.MethodPost, "faults/"+left[0])
					idle = status != http.StatusAccepted
				}
			})
			if err := <-b.done; err != nil {
				t.Error(err)
			}
			if !last.Verdict.Passed || last.Verdict.Drivers[driverEverpool].Writes.Acked == 0 {
				t.Errorf("the last event is %+v", last)
			}
		})
	}
}

// A primary isn't killed while a replica doesn't get what it acknowledges, though that
// replica's link to another server is up.
func TestAPrimaryLivesUntilItsReplicasHaveEverything(t *testing.T) {
	testkit.Start(t, testkit.Redis).Close() // skips the test, or fails it
	top, err := startGroup(t.Context(), testkit.Redis)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(top.close)
	g := top.(*group)
	for _, s := range g.sentinels { // it mends what follows
		s.Freeze()
	}
	primary := g.nodes[0]
	if err := follow(t.Context(), g.nodes[2], g.nodes[1]); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, "both replicas' links are up", func() bool { return len(replicasInSync(t.Context(), g.nodes)) == followers })
	isCut := false
	cut := func(addr string, on bool) { isCut = on && addr == primary.Addr }
	if err := leave(t.Context(), primary, 1, cut); err != nil || !isCut {
		t.Errorf("it wasn't left when its one replica had everything: %v, and clients are kept from it: %t", err, isCut)
	}
	notLeft := func(replicas int, why string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := leave(ctx, primary, replicas, cut); !errors.Is(err, context.DeadlineExceeded) || isCut {
			t.Errorf("it was left %s: %v, and clients are kept from it: %t", why, err, isCut)
		}
	}
	notLeft(followers, "with one replica of its own")
	g.nodes[1].Freeze()
	primary.Do(t, "SET", "k", "v")
	notLeft(1, "before its replica had everything")
}

// wantReport fails the test unless the report has all of the run and needs no network.
func wantReport(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"kind":"sample"`, `"fault":"kill"`, `"passed":true`, "uPlot"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %s in the report", want)
		}
	}
	if found := regexp.MustCompile(`(src|href)="?(https?:)?//[^"]*`).Find(text); found != nil {
		t.Errorf("the report needs %s", found)
	}
}

func TestTheEndpoints(t *testing.T) {
	b := start(t, "-server", "embedded", "-faults", "none", "-workloads", "steady")
	if status, page := b.request(http.MethodGet, ""); status != http.StatusOK || !strings.Contains(page, `id="plots"`) {
		t.Errorf("the page is %d %.100s", status, page)
	}
	for _, want := range []string{
		`redis_client_command_duration_seconds_count{client="everpool",command="GET",outcome="ok"}`,
		`redis_client_command_duration_seconds_count{client="stock",command="INCR",outcome="ok"}`,
		`redis_client_pool_connections{client="everpool"`, `redis_client_pool_connections{client="stock"`,
	} {
		testkit.Await(t, want+" is in /metrics", func() bool {
			_, text := b.request(http.MethodGet, "metrics")
			return strings.Contains(text, want)
		})
	}
	if status, page := b.request(http.MethodGet, "debug/everpool"); status != http.StatusOK || !strings.Contains(page, "<h3>Hot keys") {
		t.Errorf("the debug page is %d %.300s", status, page)
	}
	for _, test := range []struct {
		method, path string
		header       []string
		status       int
		text         string
	}{
		{http.MethodPost, "faults/flood", nil, http.StatusConflict, `fault "flood"; allowed are kill,`},
		{http.MethodPost, "faults/failover", nil, http.StatusConflict, "there is no failover with an embedded server"},
		{http.MethodPost, "faults/reset", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden, ""},
		{http.MethodGet, "faults/reset", nil, http.StatusMethodNotAllowed, ""},
		{http.MethodGet, "nowhere", nil, http.StatusNotFound, ""},
	} {
		if status, text := b.request(test.method, test.path, test.header...); status != test.status || !strings.Contains(text, test.text) {
			t.Errorf("%s %s: %d %s", test.method, test.path, status, text)
		}
	}
	// While a fault is under way there is no other.
	if status, _ := b.request(http.MethodPost, "faults/slow"); status != http.StatusAccepted {
		t.Errorf("slow: %d", status)
	}
	if status, text := b.request(http.MethodPost, "faults/reset"); status != http.StatusConflict || !strings.Contains(text, errBusy.Error()) {
		t.Errorf("a reset meanwhile: %d %s", status, text)
	}
	if err := b.end(); err != nil {
		t.Error(err)
	}
}

func TestADriverAlone(t *testing.T) {
	for _, name := range []string{driverEverpool, driverStock} {
		b := start(t, "-server", "embedded", "-driver", name, "-faults", "reset@200ms", "-duration", "1s")
		if err := <-b.done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatCantBeIsAnErrorBeforeTheRun(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"-server embedded -faults failover@1s", "-faults has a failover: there is none with an embedded server"},
		{"-server embedded -listen 256.0.0.1:0", `-listen is "256.0.0.1:0"`},
		{"-server embedded -report /nowhere/report.html", "-report: open /nowhere/report.html"},
	} {
		err := run(t.Context(), append(strings.Fields(test.args), "-duration", "1s"), io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.args, err, test.want)
		}
	}
}

// What isn't as it should be is seen, and fails the run of everpool; on go-redis's own
// pool only what is lost does.
func TestWhatDoesntAddUpIsSeen(t *testing.T) {
	testkit.LongOnly(t)
	set, err := parse([]string{"-server", "embedded", "-listen", "127.0.0.1:0", "-workloads", "steady,hotkeys,transactions,queues,pubsub", "-faults", "none"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		tamper func(context.Context, *side, redis.UniversalClient) error
		want   account // but for what was acknowledged and found; -1: any number
	}{
		{"a counter goes back", func(ctx context.Context, s *side, c redis.UniversalClient) error {
			return c.DecrBy(ctx, s.ledger.counters[0].key, 3).Err()
		}, account{Lost: 3}},
		{"a counter goes ahead", func(ctx context.Context, s *side, c redis.UniversalClient) error {
			return c.IncrBy(ctx, s.ledger.counters[0].key, 2).Err()
		}, account{Twice: 2}},
		{"half a transaction", func(ctx context.Context, s *side, c redis.UniversalClient) error {
			return c.Incr(ctx, s.ledger.pairs[0][0].key).Err()
		}, account{Twice: 1, Torn: 1}},
		{"another key's value", func(ctx context.Context, s *side, c redis.UniversalClient) error {
			return c.Set(ctx, s.ledger.article(0), content(s.ledger.article(1)), 0).Err()
		}, account{Foreign: -1}},
		{"a key is gone", func(ctx context.Context, s *side, c redis.UniversalClient) error {
			return c.Del(ctx, s.ledger.article(0)).Err()
		}, account{Lost: -1}},
		{"an item that nobody pushed", func(ctx context.Context, s *side, c redis.UniversalClient) error {
			return c.LPush(ctx, s.ledger.taken(), "item of somebody else").Err()
		}, account{Foreign: 1}},
		{"another channel's message", func(ctx context.Context, s *side, c redis.UniversalClient) error {
			for c.Publish(ctx, s.ledger.key("news"), "other 1").Val() == 0 && ctx.Err() == nil { // until it is listened to
				pause(ctx, time.Millisecond)
			}
			return nil
		}, account{Foreign: 1}},
	} {
		for _, driver := range []string{driverEverpool, driverStock} {
			t.Run(test.name+" on "+driver, func(t *testing.T) {
				writes, err := tampered(t, set, driver, test.tamper)
				fails := driver == driverEverpool || test.want.Lost != 0
				if (err != nil) != fails || err != nil && !errors.Is(err, errVerdict) {
					t.Errorf("it ends with %v", err)
				}
				got := account{Lost: writes.Lost, Twice: writes.Twice, Torn: writes.Torn, Foreign: writes.Foreign}
				if test.want.Foreign < 0 && got.Foreign > 0 {
					got.Foreign = -1
				}
				if test.want.Lost < 0 && got.Lost > 0 {
					got.Lost = -1
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// tampered runs a bench whose data somebody meddles with while it works, and returns what
// it says of the driver's writes.
func tampered(t *testing.T, set settings, driver string, tamper func(context.Context, *side, redis.UniversalClient) error) (account, error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	b, err := newBench(ctx, set, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	admin, err := b.top.admin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	s := b.sides[slices.IndexFunc(b.sides, func(s *side) bool { return s.name == driver })]
	done := make(chan error, 1)
	go func() { done <- b.run(ctx) }()
	enough := func(a account, n int64) bool { return a.Acked >= n && len(done) == 0 }
	testkit.Await(t, "callers work", func() bool { return enough(s.ledger.counters[0].soFar(), 5) && enough(s.ledger.pairs[0][0].soFar(), 5) })
	if err := tamper(ctx, s, admin); err != nil {
		t.Error(err)
	}
	before := s.ledger.soFar().Acked
	testkit.Await(t, "callers go on", func() bool { return enough(s.ledger.soFar(), before+50) })
	stop()
	err = <-done
	writes, err2 := s.ledger.settle(t.Context(), admin) // again, and the same
	if err2 != nil {
		t.Error(err2)
	}
	return writes, err
}

func TestAWaveRisesAndFalls(t *testing.T) {
	for _, test := range []struct {
		since time.Duration
		want  int
	}{{0, 1}, {wavePeriod / 4, 501}, {wavePeriod / 2, 1000}, {wavePeriod, 1}} {
		if got := level(test.since, 1000); got < test.want-1 || got > test.want+1 {
			t.Errorf("after %s it has %d callers, want about %d", test.since, got, test.want)
		}
	}
}

func TestTheJournalForgetsTheOldestAndNumbersOn(t *testing.T) {
	j := newJournal(time.Now())
	for n := range remembered + 10 {
		j.add(n)
	}
	entries, next, more := j.from(0)
	if next != remembered+10 || len(entries) > remembered || string(entries[len(entries)-1]) != "10009" || more == nil {
		t.Errorf("%d entries, the next is %d", len(entries), next)
	}
	if entries, _, _ := j.from(next); len(entries) != 0 {
		t.Errorf("%d entries after the last", len(entries))
	}
	j.end()
	select {
	case <-more:
	default:
		t.Error("the end wakes nobody")
	}
	if _, _, more := j.from(next); more != nil {
		t.Error("more is to come after the end")
	}
}

// output is what the program has printed so far.
type output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
