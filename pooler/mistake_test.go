package pooler_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// wrong is an error of a dial that will come again until somebody mends something.
var wrong = &net.OpError{Op: "dial", Err: &pooler.SetupError{Err: errors.New("no such host"), Hint: "is its name right?"}}

func TestAMistakeAtANodeThatHasNeverAnsweredFailsRequestsAtOnceAndHeals(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		pt.fake.Down(wrong)
		began := time.Now()
		for range 3 {
			for _, err := range []error{<-pt.awaitNode(pt.Context(), 0), pt.begin(pooler.Request{Session: pt.plain}).await().err} {
				e := pt.wantErr(err, pooler.ErrNodeDown)
				var m *pooler.SetupError
				if !errors.As(e.Cause, &m) || m.Hint != "is its name right?" {
					t.Errorf("the cause is %v", e.Cause)
				}
			}
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("six requests took %v", took)
		}
		const callers = 200
		for range callers { // that come on, and each fails at once
			pt.wantErr(<-pt.awaitNode(pt.Context(), 0), pooler.ErrNodeDown)
			time.Sleep(100 * time.Millisecond)
		}
		if n := pt.dialer.count(); n > callers+150 {
			t.Errorf("%d dials in 20 s", n)
		}
		pt.fake.Up()
		pt.sleep(time.Second + 100*time.Millisecond)
		if err := <-pt.awaitNode(pt.Context(), 0); err != nil {
			t.Errorf("when it is mended: %v", err)
		}
		pt.put(pt.get(pt.plain))
	})
}

// A server that refuses a client's certificate often can't say so: it resets the
// connection, and its word is lost. What it has said once holds until something else is
// said.
func TestAMistakeThatWasToldIsNotTakenBackByAWordlessLoss(t *testing.T) {
	for _, loss := range []error{io.EOF, syscall.ECONNRESET, syscall.EPIPE} {
		bubble(t, pooler.Config{}, func(pt *tester) {
			pt.fake.Down(wrong)
			pt.wantErr(<-pt.awaitNode(pt.Context(), 0), pooler.ErrNodeDown)
			pt.fake.Down(&net.OpError{Op: "read", Err: loss})
			for range 10 {
				began := time.Now()
				e := pt.wantErr(<-pt.awaitNode(pt.Context(), 0), pooler.ErrNodeDown)
				if took := time.Since(began); took > 10*time.Millisecond || !errors.Is(e.Cause, wrong) {
					t.Errorf("after %v: %v", took, e.Cause)
				}
			}
			if n := pt.dialer.count(); n > 12 {
				t.Errorf("%d dials for eleven requests", n)
			}
			pt.fake.DownRefused() // that is no mistake, and waited for
			began := time.Now()
			pt.wantErr(<-pt.awaitNode(pt.Context(), 0), pooler.ErrNodeDown)
			if took := time.Since(began); took < time.Second {
				t.Errorf("a node that refuses was waited for %v", took)
			}
		})
	}
}

func TestAMistakeIsWaitedForWhereRequestsAlwaysWait(t *testing.T) {
	bubble(t, pooler.Config{FailFastAfter: -1, WaitTimeout: -1}, func(pt *tester) {
		pt.fake.Down(wrong)
		w := pt.wait(pt.plain)
		pt.sleep(time.Hour)
		w.wantWaiting()
		pt.fake.Up()
		pt.put(w.await().wantConn())
	})
}

// Its name may be about to change, or what is in between be started again.
func TestANodeThatHasAnsweredIsWaitedForWhateverItsDialsSay(t *testing.T) {
	bubble(t, pooler.Config{FailFastAfter: 3 * time.Second}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.do(c, "PING")
		pt.put(c)
		pt.fake.Down(wrong)
		pt.pool.Drain()
		began := time.Now()
		w := pt.wait(pt.plain)
		pt.wantErr(<-pt.awaitNode(pt.Context(), 0), pooler.ErrNodeDown)
		w.await().wantErr(pooler.ErrNodeDown)
		if took := time.Since(began); took < 3*time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

// A server that wants something else hangs up without a word.
func TestWhatAFirstConnectionIsLostForIsExplained(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		var asked atomic.Int64
		var mended atomic.Bool
		server := func(context.Context, string, string) (net.Conn, error) {
			nc, peer := net.Pipe()
			go func() {
				_, _ = peer.Read(make([]byte, 100))
				time.Sleep(time.Millisecond) // a pipe refuses deadlines once its peer has gone, where a socket doesn't
				_ = peer.Close()
			}()
			return nc, nil
		}
		p, err := pooler.New(pooler.Node{
			Network: "tcp", Addr: addr,
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if mended.Load() {
					return pt.fake.Dial(ctx, network, addr)
				}
				return server(ctx, network, addr)
			},
			Explain: func(_ context.Context, err error) error {
				asked.Add(1)
				if !errors.Is(err, io.EOF) {
					t.Errorf("asked about %v", err)
				}
				return &pooler.SetupError{Err: err, Hint: "it wants TLS"}
			},
		}, pooler.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		r := pooler.Request{Session: pt.plain, Name: "GET"}
		c, err := p.Get(pt.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = exchange(c, "GET", "k"); !errors.Is(err, io.EOF) || asked.Load() != 1 {
			t.Errorf("%v, and asked %d times", err, asked.Load())
		}
		a := auditor{T: t, pool: p}
		a.look()
		p.Put(c, pooler.Failed)
		a.look() // its dial has succeeded, and stays one that has
		began := time.Now()
		_, err = p.Get(pt.Context(), r)
		e := pt.wantErr(err, pooler.ErrNodeDown)
		if took := time.Since(began); took > 100*time.Millisecond || e.Cause == nil || e.Cause.Error() != "EOF (it wants TLS)" {
			t.Errorf("after %v: %v", took, err)
		}

		mended.Store(true)
		time.Sleep(2 * time.Second)
		if c, err = p.Get(pt.Context(), r); err != nil {
			t.Fatalf("when it is mended: %v", err)
		}
		if _, err := exchange(c, "PING"); err != nil {
			t.Fatal(err)
		}
		p.Put(c, pooler.Answered)
		mended.Store(false)
		p.Drain()
		before := asked.Load()
		if c, err = p.Get(pt.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := exchange(c, "GET", "k"); !errors.Is(err, io.EOF) || asked.Load() != before {
			t.Errorf("%v, and asked %d times after it has answered once", err, asked.Load()-before)
		}
		p.Put(c, pooler.Failed)
	})
}

func TestOnceTheNodeHasAnsweredOnAnyConnectionNoLossIsExplained(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		p, err := pooler.New(pooler.Node{
			Network: "tcp", Addr: addr, Dial: pt.fake.Dial,
			Explain: func(_ context.Context, err error) error {
				t.Errorf("asked about %v", err)
				return err
			},
		}, pooler.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		var conns [2]*pooler.Conn
		for i := range conns {
			if conns[i], err = p.Get(pt.Context(), pooler.Request{Session: pt.plain}); err != nil {
				t.Fatal(err)
			}
		}
		pt.do(conns[0], "PING")
		pt.fake.Handle("GET", func(c *testkit.FakeConn, _ []string) []byte {
			c.CloseNow()
			return nil
		})
		for _, c := range conns {
			if _, err := exchange(c, "GET", "k"); err == nil {
				t.Error("it isn't lost")
			}
			p.Put(c, pooler.Failed)
		}
	})
}

// hungUp is a connection whose peer has hung up already, having said something.
type hungUp struct {
	net.Conn
	said []byte
	why  error
}

func (h *hungUp) Write([]byte) (int, error) {
	return 0, &net.OpError{Op: "write", Err: syscall.ECONNRESET}
}

func (h *hungUp) Read(p []byte) (n int, err error) {
	n = copy(p, h.said)
	if h.said = h.said[n:]; n == 0 {
		err = h.why
	}
	return n, err
}

// A refusal comes before the first write when the machine is busy, and the write finds
// the connection reset. What was said is there still.
func TestWhatAServerHasSaidBeforeItHungUpIsHeard(t *testing.T) {
	alert := errors.New("remote error: certificate required")
	for name, c := range map[string]struct {
		conn   hungUp
		refuse bool // the first dial, so that it is a probe that hears
		cause  string
	}{
		"an alert, by a caller":       {hungUp{why: alert}, false, "remote error: certificate required (mend it)"},
		"an alert, by a probe":        {hungUp{why: alert}, true, "remote error: certificate required (mend it)"},
		"too many clients, a probe":   {hungUp{said: []byte("-ERR max number of clients reached\r\n"), why: io.EOF}, true, "the server has its max number of clients"},
		"nothing, a probe":            {hungUp{why: io.EOF}, true, "write: connection reset by peer"},
		"nothing, and reads are lost": {hungUp{why: syscall.ECONNRESET}, true, "write: connection reset by peer"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{}, func(pt *tester) {
				dials := 0
				p, err := pooler.New(pooler.Node{
					Network: "tcp", Addr: addr,
					Dial: func(context.Context, string, string) (net.Conn, error) {
						if dials++; dials == 1 && c.refuse {
							return nil, syscall.ECONNREFUSED
						}
						conn := c.conn
						conn.Conn, _ = net.Pipe()
						return &conn, nil
					},
					Explain: func(_ context.Context, err error) error {
						if errors.Is(err, alert) {
							return &pooler.SetupError{Err: err, Hint: "mend it"}
						}
						return err
					},
				}, pooler.Config{FailFastAfter: time.Second, BackoffMin: time.Minute, BackoffMax: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				r := pooler.Request{Session: pt.plain, Name: "GET"}
				conn, err := p.Get(pt.Context(), r)
				if !c.refuse {
					if err != nil {
						t.Fatal(err)
					}
					if _, err := exchange(conn, "GET", "k"); !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the write: %v", err)
					}
					_, err = p.Replace(pt.Context(), conn, r, pooler.Move)
				}
				if e := pt.wantErr(err, pooler.ErrNodeDown); e.Cause == nil || e.Cause.Error() != c.cause {
					t.Errorf("%v, want %s", err, c.cause)
				}
				if dials > 2 {
					t.Errorf("%d dials", dials)
				}
			})
		})
	}
}
