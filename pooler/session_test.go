package pooler_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

const secret = "hunter2"

// auth returns a session with credentials, a database and an optional step.
func auth(password string) *pooler.Session {
	info := step("+OK\r\n", "CLIENT", "SETINFO", "LIB-NAME", "x")
	info.Optional = true
	return pooler.NewSession(
		step("%1\r\n+proto\r\n:3\r\n", "HELLO", "3", "AUTH", "default", password),
		step("+OK\r\n", "SELECT", "3"),
		info,
	)
}

func TestAnIdleConnectionOfOneSessionNeverServesAnother(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 10}, func(pt *tester) {
		s1, s2 := session(1), session(2)
		for range 20 {
			for db, s := range map[string]*pooler.Session{"db=0": pt.plain, "db=1": s1, "db=2": s2} {
				c := pt.get(s)
				if got := pt.do(c, "CLIENT", "INFO"); !strings.Contains(got, db+" ") {
					t.Errorf("want %s, got %s", db, got)
				}
				pt.put(c)
			}
		}
		pt.wantDials(3)
		if got := pt.pool.Stats().Sessions; got != 3 {
			t.Errorf("%d sessions, want 3", got)
		}
	})
}

// writes collects what is written to a connection, write by write.
type writes struct {
	mu   sync.Mutex
	each []string
}

type recordedConn struct {
	net.Conn
	w *writes
}

func (c recordedConn) Write(b []byte) (int, error) {
	c.w.mu.Lock()
	c.w.each = append(c.w.each, string(b))
	c.w.mu.Unlock()
	return c.Conn.Write(b)
}

func TestTheReplayIsTheSessionsBytesInOneWrite(t *testing.T) {
	w := &writes{}
	bubble(t, pooler.Config{}, func(pt *tester) {
		pt.fake.SetPassword("", secret)
		s := auth(secret)
		pt.put(pt.get(s))
		var want strings.Builder
		for _, st := range s.Steps() {
			want.WriteString(string(st.Request))
		}
		if !slices.Equal(w.each, []string{want.String()}) {
			t.Errorf("written: %q, want %q", w.each, want.String())
		}
	}, testkit.WithConnWrapper(func(c net.Conn) net.Conn { return recordedConn{c, w} }))
}

func TestARefusedReplayKillsTheSessionAndNotTheNode(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 3}, func(pt *tester) {
		pt.fake.SetPassword("", secret)
		old, other := auth(secret), auth("rotated")
		idle, leased := pt.get(old), pt.get(old)
		pt.put(idle)
		pt.fake.SetPassword("", "rotated")
		pt.dialer.hold(true)
		idle = pt.get(old)
		w1, w2 := pt.wait(old), pt.wait(old)
		pt.put(idle)
		pt.put(w1.wantConn())
		pt.put(w2.wantConn())
		idle = pt.get(old)
		w1, w2 = pt.wait(old), pt.wait(old)
		pt.dialer.hold(false)
		pt.dialer.wantDial().finish(nil)
		// What had served the waiters before is one too many: it is refused.
		for _, w := range []*pending{w1, w2} {
			e := w.wantErr(pooler.ErrSessionLost)
			if e.Cause == nil || e.Cause.Error() != "WRONGPASS" {
				t.Errorf("cause is %v, want WRONGPASS", e.Cause)
			}
			if strings.Contains(fmt.Sprintf("%v %+v %#v %s", e, e, e, old), secret) {
				t.Error("the error shows the password")
			}
		}
		if !old.Dead() {
			t.Error("the session lives")
		}
		pt.wantGetErr(old, pooler.ErrSessionLost)
		pt.put(idle, leased)
		pt.wantCloses(pooler.CloseSessionLost, 2)
		pt.wantState(pooler.StateUp)
		c := pt.get(other)
		pt.do(c, "PING")
		pt.put(c)
	})
}

// A password that was changed at the server costs those who need a new connection, as
// with the stock client. What is open is in.
func TestAFixedSessionOutlivesARefusalWhileConnectionsServeInIt(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 10, MinIdleConns: 2}, func(pt *tester) {
		pt.fake.SetPassword("", secret)
		s := auth(secret)
		s.SetFixed(1)
		pt.fill(s, 2)
		pt.fake.SetPassword("", "rotated")
		c1, c2 := pt.get(s), pt.get(s)
		e := pt.begin(pooler.Request{Session: s}).await().wantErr(pooler.ErrRefused)
		if e.Cause == nil || e.Cause.Error() != "WRONGPASS" {
			t.Errorf("cause is %v, want WRONGPASS", e.Cause)
		}
		pt.put(c1, c2)
		dials := pt.fake.Dials()
		for range 100 {
			c := pt.get(s)
			pt.do(c, "PING")
			pt.put(c)
		}
		if n := pt.fake.Dials() - dials; n > 1 {
			t.Errorf("%d dials for nobody; want one a second at most", n)
		}
		pt.wantCloses(pooler.CloseSessionLost, 0)
		pt.fake.ResetAll()
		pt.sleep(time.Minute)
		pt.begin(pooler.Request{Session: s}).await().wantErr(pooler.ErrSessionLost)
		if !s.Dead() {
			t.Error("the session lives without a connection")
		}
	})
}

// A dial that shows credentials which were just replaced says nothing to those who have come
// since it began: the next one shows what there is by now.
func TestARefusalOfReplacedCredentialsIsForThoseWhoWaitedForThem(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		shown := []string{secret, secret, secret, "rotated"} // to the dials; one asks again when it is refused
		answer := make(chan struct{}, 10)
		answer <- struct{}{}
		step := pooler.Step{Request: resp.AppendCommand(nil, "AUTH", secret), Reply: []byte("+OK\r\n")}
		step.Renew = func(context.Context) ([]byte, error) {
			<-answer
			next := shown[0]
			shown = shown[min(1, len(shown)-1):]
			return resp.AppendCommand(nil, "AUTH", next), nil
		}
		s := pooler.NewSession(step)
		s.SetFixed(1)
		pt.fake.SetPassword("", secret)
		serves := pt.get(s)
		pt.fake.SetPassword("", "rotated")
		before := pt.wait(s)
		pt.sleep(10 * time.Millisecond)
		since := pt.wait(s)
		for range 5 {
			answer <- struct{}{}
		}
		before.wantErr(pooler.ErrRefused)
		pt.put(since.wantConn(), serves)
	})
}

func TestIdleConnectionsOfALostSessionAreClosedAtOnce(t *testing.T) {
	bubble(t, pooler.Config{MinIdleConns: 3, MaxOpenConns: 3}, func(pt *tester) {
		pt.fake.SetPassword("", secret)
		s := auth(secret)
		pt.fill(s, 1)
		pt.wantIdle(3)
		pt.fake.SetPassword("", "rotated")
		c := pt.get(s)
		pt.pool.Pin(c, "transaction")
		pt.put(c) // makes MinIdleConns dial one more
		pt.wantOpen(0)
		pt.wantCloses(pooler.CloseSessionLost, 2)
		pt.wantState(pooler.StateUp)
	})
}

func TestAnOptionalStepMayBeRefused(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		pt.fake.SetPassword("", secret)
		c := pt.get(auth(secret))
		pt.do(c, "PING")
		pt.put(c)
	}, testkit.WithoutSetInfo())
}

func TestWhatTheServerSaysOfItselfAtTheReplayIsTheNodesCondition(t *testing.T) {
	for _, reply := range []string{
		"LOADING Redis is loading the dataset in memory",
		"BUSY Redis is busy running a script.",
		"MASTERDOWN Link with MASTER is down",
		"ERR max number of clients reached",
	} {
		t.Run(strings.Fields(reply)[0], func(t *testing.T) {
			bubble(t, pooler.Config{FailFastAfter: -1}, func(pt *tester) {
				s := session(1)
				pt.fake.Handle("SELECT", func(*testkit.FakeConn, []string) []byte { return testkit.ReplyError(reply) })
				w := pt.wait(s)
				pt.wantState(pooler.StateDown)
				if s.Dead() {
					t.Error("the session is dead")
				}
				pt.fake.Handle("SELECT", nil)
				pt.put(w.await().wantConn())
				pt.wantState(pooler.StateUp)
			})
		})
	}
}

// What the server says is told as it is, but for what repeats something that it was sent.
func TestWhatTheServerSaysOfItsConditionIsToldWithoutSecrets(t *testing.T) {
	for says, want := range map[string]string{
		"LOADING Redis is loading the dataset in memory": "LOADING Redis is loading the dataset in memory",
		"LOADING as you said " + secret + ", wait":       "LOADING the server is not ready",
		"MASTERDOWN " + strings.Repeat("x", 1000):        "MASTERDOWN the server is not ready",
	} {
		bubble(t, pooler.Config{SharedConns: -1}, func(pt *tester) {
			pt.fake.SetPassword("", secret)
			held := pt.get(auth(secret))
			pt.fake.Handle("HELLO", func(*testkit.FakeConn, []string) []byte { return testkit.ReplyError(says) })
			_, err := pt.tryGet(pooler.Request{Session: auth(secret)})
			if e := pt.wantErr(err, pooler.ErrNotReady); e.Cause == nil || e.Cause.Error() != want {
				pt.Errorf("%q is told as: %v", says, err)
			}
			pt.put(held)
		})
	}
}

func TestAServerThatHangsUpAtTheReplayIsTheNodesCondition(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		s := session(1)
		pt.fake.CutReply(3)
		c := pt.get(s) // the first dial is cut, the probe heals
		pt.put(c)
		pt.wantDials(2)
		if s.Dead() || pt.pool.Stats().Heals != 1 {
			t.Errorf("dead: %v, heals: %d", s.Dead(), pt.pool.Stats().Heals)
		}
	})
}

func TestASessionThatIsLostInAProbeHealsTheNode(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		s := session(1)
		pt.fake.DownRefused()
		w := pt.wait(s)
		pt.fake.Handle("SELECT", func(*testkit.FakeConn, []string) []byte { return testkit.ReplyError("NOPERM no") })
		pt.fake.Up()
		w.await().wantErr(pooler.ErrSessionLost)
		pt.wantState(pooler.StateUp)
	})
}

func TestEvictionMakesRoomForAnotherSession(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		s1, s2 := session(1), session(2)
		old, young := pt.get(s1), pt.get(s1)
		pt.put(old)
		pt.sleep(1)
		pt.put(young)
		c := pt.get(s2)
		pt.wantCloses(pooler.CloseRoom, 1)
		if errors.Is(young.Err(), pooler.ErrClosed) || !errors.Is(old.Err(), pooler.ErrClosed) {
			t.Error("the one that was idle for longest should have gone")
		}
		pt.put(c)
		pt.wantIdle(2)
	})
}

func TestAnOvertakenWaiterOfAnotherSessionGetsItsTurnInAFullPool(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: -1}, func(pt *tester) {
		s1, s2 := session(1), session(2)
		c := pt.get(s1)
		other := pt.wait(s2)
		turns := 0
		for next := pt.wait(s1); !other.ended(); turns++ {
			if turns == 100 {
				t.Fatal("the waiter of the other session was overtaken 100 times")
			}
			after := pt.wait(s1)
			pt.put(c)
			if other.ended() {
				c = other.wantConn()
				pt.put(c) // room for s1 again
				pt.put(next.await().wantConn())
				pt.put(after.await().wantConn())
				return
			}
			c = next.wantConn()
			next = after
		}
	})
}
