package pooler_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

const addr = "10.0.0.1:6379"

// tester is a pool, the server that it connects to, and verbs for both. When
// the test ends the books must balance: every admitted request has ended in
// one way, and nothing is left open.
type tester struct {
	*testing.T
	pool   *pooler.Pool
	fake   *testkit.Fake
	dialer *dialer
	plain  *pooler.Session // of a fresh connection

	mu     sync.Mutex
	events []pooler.Event
}

// newTester returns a tester whose pool has cfg. Its OnEvent, if any, is called
// after the event was noted.
func newTester(t *testing.T, cfg pooler.Config, opts ...testkit.FakeOption) *tester {
	t.Helper()
	return newTesterAt(t, addr, cfg, opts...)
}

// newTesterAt is newTester with a node of another address.
func newTesterAt(t *testing.T, addr string, cfg pooler.Config, opts ...testkit.FakeOption) *tester {
	t.Helper()
	pt := &tester{T: t, fake: testkit.NewFake(opts...), plain: pooler.NewSession()}
	pt.dialer = &dialer{pt: pt, dial: pt.fake.Dial}
	onEvent := cfg.OnEvent
	cfg.OnEvent = func(ev pooler.Event) {
		pt.mu.Lock()
		pt.events = append(pt.events, ev)
		pt.mu.Unlock()
		if onEvent != nil {
			onEvent(ev)
		}
	}
	p, err := pooler.New(pooler.Node{Network: "tcp", Addr: addr, Dial: pt.dialer.Dial}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	pt.pool = p
	t.Cleanup(pt.end)
	return pt
}

// bubble runs the script in fake time.
func bubble(t *testing.T, cfg pooler.Config, script func(pt *tester), opts ...testkit.FakeOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { script(newTester(t, cfg, opts...)) })
}

func (pt *tester) end() {
	if s := pt.pool.Stats(); s.InFlight != 0 && !pt.Failed() {
		pt.Errorf("%d requests in flight at the end of the test", s.InFlight)
	}
	if err := pt.pool.Close(); err != nil {
		pt.Errorf("Close: %v", err)
	}
	pt.dialer.releaseAll()
	s := pt.pool.Stats()
	if s.Admitted != s.Answered+s.Failed+s.Abandoned+s.InFlight {
		pt.Errorf("admitted %d, but answered %d + failed %d + abandoned %d + in flight %d",
			s.Admitted, s.Answered, s.Failed, s.Abandoned, s.InFlight)
	}
	if s.OpenConnections+s.Idle+s.Dialing+s.Draining+s.Waiting+s.Pinned+s.Streams != 0 {
		pt.Errorf("left over after Close: %+v", s)
	}
	for what, n := range pt.pool.Counts() {
		if n != 0 {
			pt.Errorf("%d are counted as %s after Close", n, what)
		}
	}
	pt.fake.Close()
	if n := pt.dialer.live(); n != 0 && !pt.Failed() {
		pt.Errorf("%d sockets were never closed", n)
	}
}

// get leases a connection, which must work.
func (pt *tester) get(s *pooler.Session) *pooler.Conn {
	pt.Helper()
	c, err := pt.tryGet(pooler.Request{Session: s, Name: "GET"})
	if err != nil {
		pt.Fatalf("Get: %v", err)
	}
	return c
}

func (pt *tester) tryGet(r pooler.Request) (*pooler.Conn, error) {
	return pt.pool.Get(context.Background(), r)
}

// wantGetErr leases a connection, which must fail.
func (pt *tester) wantGetErr(s *pooler.Session, want error) *pooler.Error {
	pt.Helper()
	c, err := pt.tryGet(pooler.Request{Session: s, Name: "GET"})
	if err == nil {
		pt.put(c)
	}
	return pt.wantErr(err, want)
}

func (pt *tester) wantErr(err, want error) *pooler.Error {
	pt.Helper()
	if !errors.Is(err, want) {
		pt.Fatalf("error is %v, want %v", err, want)
	}
	e, _ := errors.AsType[*pooler.Error](err)
	return e
}

func (pt *tester) put(cs ...*pooler.Conn)     { pt.giveBack(pooler.Answered, cs) }
func (pt *tester) fail(cs ...*pooler.Conn)    { pt.giveBack(pooler.Failed, cs) }
func (pt *tester) abandon(cs ...*pooler.Conn) { pt.giveBack(pooler.Abandoned, cs) }

func (pt *tester) giveBack(o pooler.Outcome, cs []*pooler.Conn) {
	for _, c := range cs {
		pt.pool.Put(c, o)
	}
}

// fill leases n connections of the session and gives them back.
func (pt *tester) fill(s *pooler.Session, n int) {
	pt.Helper()
	var cs []*pooler.Conn
	for range n {
		cs = append(cs, pt.get(s))
	}
	pt.put(cs...)
}

// send sends one command and reads nothing.
func (pt *tester) send(c *pooler.Conn, args ...string) {
	pt.Helper()
	c.Owe(1)
	if _, err := c.Send(resp.AppendCommand(nil, args...), time.Time{}); err != nil {
		pt.Fatalf("Send %q: %v", args, err)
	}
}

// do exchanges one command for its reply.
func (pt *tester) do(c *pooler.Conn, args ...string) string {
	pt.Helper()
	reply, err := exchange(c, args...)
	if err != nil {
		pt.Fatalf("%q: %v", args, err)
	}
	return reply
}

// exchange sends one command and reads its reply.
func exchange(c *pooler.Conn, args ...string) (string, error) {
	c.Owe(1)
	if _, err := c.Send(resp.AppendCommand(nil, args...), time.Time{}); err != nil {
		return "", err
	}
	return receive(c, time.Time{})
}

// receive reads one reply.
func receive(c *pooler.Conn, deadline time.Time) (string, error) {
	var reply []byte
	buf := make([]byte, 100)
	for {
		n, done, err := c.Receive(buf, deadline)
		reply = append(reply, buf[:n]...)
		if done || err != nil {
			return string(reply), err
		}
	}
}

// session returns the session of a database.
func session(db int) *pooler.Session {
	return pooler.NewSession(step("+OK\r\n", "SELECT", strconv.Itoa(db)))
}

func step(reply string, args ...string) pooler.Step {
	return pooler.Step{Request: resp.AppendCommand(nil, args...), Reply: []byte(reply)}
}

// settle lets everything happen that happens now.
func (pt *tester) settle() { synctest.Wait() }

// sleep lets fake time pass.
func (pt *tester) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (pt *tester) wantDials(n int) {
	pt.Helper()
	pt.settle()
	if got := pt.dialer.count(); got != n {
		pt.Fatalf("%d dials, want %d", got, n)
	}
}

func (pt *tester) wantOpen(n int) {
	pt.Helper()
	pt.settle()
	if got := pt.pool.Stats().OpenConnections; got != n {
		pt.Fatalf("%d connections open, want %d", got, n)
	}
}

func (pt *tester) wantIdle(n int) {
	pt.Helper()
	pt.settle()
	if got := pt.pool.Stats().Idle; got != n {
		pt.Fatalf("%d connections idle, want %d", got, n)
	}
}

func (pt *tester) wantState(want pooler.State) {
	pt.Helper()
	pt.settle()
	if got := pt.pool.Stats().State; got != want {
		pt.Fatalf("the node is %v, want %v", got, want)
	}
}

func (pt *tester) wantCloses(reason pooler.CloseReason, n int64) {
	pt.Helper()
	pt.settle()
	if got := pt.pool.Stats().Closes; got[reason] != n {
		pt.Fatalf("%d connections closed for %q, want %d; all: %v", got[reason], reason, n, got)
	}
}

// eventsOf returns the events of the kinds so far.
func (pt *tester) eventsOf(kinds ...pooler.EventKind) []pooler.Event {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	var evs []pooler.Event
	for _, ev := range pt.events {
		if slices.Contains(kinds, ev.Kind) {
			evs = append(evs, ev)
		}
	}
	return evs
}

// states returns the states that the node has gone through.
func (pt *tester) states() []string {
	states := []string{"up"}
	for _, ev := range pt.eventsOf(pooler.EventState) {
		states = append(states, ev.State.String())
	}
	return states
}

// wantErrors is wantErr for goroutines other than the test's.
func (pt *tester) wantErrors(err, want error) {
	pt.Helper()
	if !errors.Is(err, want) {
		pt.Errorf("error is %v, want %v", err, want)
	}
}
