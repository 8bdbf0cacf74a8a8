package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/everpool/everpool/internal/testkit"
)

func TestMain(m *testing.M) {
	logging.Disable()
	goleak.VerifyTestMain(m)
}

// output runs the program and returns what it prints.
func output(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(ctx, args, &out); err != nil {
		t.Fatalf("%v; it printed:\n%s", err, &out)
	}
	t.Logf("quickstart %s\n%s", strings.Join(args, " "), &out)
	return out.String()
}

// wantLines fails the test unless the lines are there in this order.
func wantLines(t *testing.T, out string, patterns ...string) {
	t.Helper()
	rest := out
	for _, p := range patterns {
		at := regexp.MustCompile("(?m)" + p).FindStringIndex(rest)
		if at == nil {
			t.Errorf("no line %q (at all, or in its place)", p)
			continue
		}
		rest = rest[at[1]:]
	}
}

// figures returns the numbers of a row: everpool's, go-redis's.
func figures(t *testing.T, out, label string) (ours, stock int) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^ +` + label + ` +(\d+) +(\d+)$`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no row %q", label)
	}
	ours, _ = strconv.Atoi(m[1])
	stock, _ = strconv.Atoi(m[2])
	return ours, stock
}

func TestOutageOfTheEmbeddedServerCostsCallersNoRequest(t *testing.T) {
	out := output(t.Context(), t, "-for", "600ms")
	wantLines(t, out,
		`^The server is embedded`,
		`the callers start$`, `the server is stopped$`, `the server is started again$`, `the node is up again after`, `the callers stop$`,
		`^What the callers saw`, `^  requests +[1-9]`, `^  slowest request +0\.[0-9]{3} s`,
		`^everpool's pool for 127`, `state +up for .*it came back 1 time$`, `sockets +\d+ open of at most`,
	)
	called, _ := figures(t, out, "INCRs called")
	acked, _ := figures(t, out, "INCRs answered")
	counted, _ := figures(t, out, "INCRs that the server has counted")
	if counted < acked || counted > called {
		t.Errorf("the server has counted %d INCRs; %d were answered of %d", counted, acked, called)
	}
	if failed, _ := figures(t, out, "failed"); failed > called-acked {
		t.Errorf("%d requests failed, of which %d INCRs", failed, called-acked)
	}
}

func TestCutConnectionsOfARealServerCostCallersNoRead(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	out := output(t.Context(), t, "-addr", s.Addr, "-for", "600ms")
	wantLines(t, out,
		`Only the connections of this program will be cut`,
		`the server closes [1-9]\d* connections`, `the server closes [1-9]\d* connections`,
		`^What the callers saw`, `^  requests +[1-9]`, `state +up for`,
	)
	if n := s.Do(t, "DBSIZE"); n != "0" {
		t.Errorf("%s keys were left behind", n)
	}
}

func TestInterruptEndsItWithTheFiguresSoFar(t *testing.T) {
	out := interrupted(t, "the callers start", "-for", "9m")
	wantLines(t, out, `interrupted; these are the figures so far$`, `^What the callers saw`)
}

func TestInterruptDuringTheOutageStartsTheServerAgain(t *testing.T) {
	out := interrupted(t, "the server is stopped", "-for", "1500ms")
	wantLines(t, out, `the server is stopped$`, `the server is started again$`, `interrupted`, `^What the callers saw`)
}

// interrupted runs the program, interrupts it when it has printed the line, and
// returns what it prints.
func interrupted(t *testing.T, line string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := watcher{line: line, seen: cancel}
	if err := run(ctx, args, &out); err != nil {
		t.Fatalf("%v; it printed:\n%s", err, &out.buf)
	}
	return out.buf.String()
}

func TestWrongArgumentsAreNamed(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"-for 1ms", "-for is 1ms; allowed are 300ms and more"},
		{"-addr 127.0.0.1:1", "no answer from 127.0.0.1:1"},
		{"-frob", "flag provided but not defined: -frob"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), strings.Fields(test.args), &out)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.args, err, test.want)
		}
	}
}

// TestSignalIsHonoured runs the program itself, as the test binary.
func TestSignalIsHonoured(t *testing.T) {
	if os.Getenv("QUICKSTART_MAIN") != "" {
		os.Args = []string{"quickstart", "-for", "9m"}
		main()
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestSignalIsHonoured$")
	cmd.Env = append(os.Environ(), "QUICKSTART_MAIN=1")
	started := make(chan struct{})
	out := watcher{line: "the callers start", seen: func() { close(started) }}
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-started:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	wantLines(t, out.buf.String(), `the callers start$`, `interrupted`, `^What the callers saw`)
}

// watcher keeps what is printed, and calls seen once when the line has come. It
// doesn't embed its buffer, whose ReadFrom would get past Write.
type watcher struct {
	buf  bytes.Buffer
	line string
	seen func()
}

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.buf.Write(p)
	if w.seen != nil && strings.Contains(w.buf.String(), w.line+"\n") {
		w.seen()
		w.seen = nil
	}
	return n, err
}
