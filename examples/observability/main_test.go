package main

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/everpool/everpool/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The program prints spans, serves its pages while it works, and says at its end
// what was measured.
func TestTheProgramShowsAllThatItPromises(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := new(output)
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"-listen", "127.0.0.1:0"}, out) }()
	testkit.Await(t, "a span is printed", func() bool { return strings.Contains(out.String(), "db.operation.name=") })
	page := regexp.MustCompile(`http://[^/\s]+`)
	base := page.FindString(out.String())
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	get := func(path string) string {
		res, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, res.Status, err)
		}
		return string(body)
	}
	for _, want := range []string{
		`redis_client_command_duration_seconds_count{client="shop",command="GET",outcome="ok"}`, "redis_client_pool_connections",
		// It has to have come so far for what is asked of the report.
		`kind="pipeline"`, `kind="transaction"`, `command="INCR",outcome="error"`,
	} {
		testkit.Await(t, want+" is in /metrics", func() bool { return strings.Contains(get("/metrics"), want) })
	}
	if debug := get("/debug/everpool"); !strings.Contains(debug, "<h2>shop</h2>") {
		t.Error(debug)
	}
	testkit.Await(t, "the most popular article is among the hot keys", func() bool { return strings.Contains(get("/hotkeys"), "shop:article:0") })

	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"db.client.operation.duration", "PIPELINE", "MULTI", "INCR ERR", "shop:article:0"} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
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

func TestWrongFlagsAreErrors(t *testing.T) {
	for _, args := range [][]string{{"-for", "-1s"}, {"-spans", "-1"}, {"-nonsense"}, {"-listen", "nowhere"}, {"-addr", "127.0.0.1:1", "-listen", "256.0.0.1:0"}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
