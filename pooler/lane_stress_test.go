package pooler_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/pooler"
)

// echo is a RESP server on a real socket. It answers ECHO tag n with the tag,
// repeated up to n bytes, and PING; with faults it slices its replies, delays
// them and resets connections.
type echo struct {
	listener net.Listener
	faults   atomic.Bool
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
}

func newEcho(t *testing.T) *echo {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{listener: l, conns: make(map[net.Conn]struct{})}
	e.wg.Go(func() {
		for seed := uint64(0); ; seed++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			e.conns[c] = struct{}{}
			e.mu.Unlock()
			e.wg.Go(func() { e.serve(c, rand.New(rand.NewPCG(seed, 7))) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		e.mu.Lock()
		for c := range e.conns {
			c.Close()
		}
		e.mu.Unlock()
		e.wg.Wait()
	})
	return e
}

// readCommand reads an array of bulk strings.
func readCommand(r *bufio.Reader) (args []string, err error) {
	number := func() (n int, err error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number()
	for range n {
		var size int
		if size, err = number(); err != nil {
			return nil, err
		}
		arg := make([]byte, size+2)
		if _, err = io.ReadFull(r, arg); err != nil {
			return nil, err
		}
		args = append(args, string(arg[:size]))
	}
	return args, err
}

func (e *echo) serve(c net.Conn, rnd *rand.Rand) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		reply := "+PONG\r\n"
		if args[0] == "ECHO" {
			reply = bigReply(args[1], args[2])
		}
		for e.faults.Load() && len(reply) > 0 && rnd.IntN(4) == 0 { // in slices
			n := 1 + rnd.IntN(len(reply))
			_, _ = io.WriteString(c, reply[:n])
			reply = reply[n:]
			switch rnd.IntN(300) {
			case 0:
				_ = c.(*net.TCPConn).SetLinger(0) // reset
				return
			case 1:
				return // EOF
			case 2, 3:
				time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond)
			}
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

// pool returns a pool of the server, without anything between it and the socket.
func (e *echo) pool(t *testing.T, cfg pooler.Config) *pooler.Pool {
	p, err := pooler.New(pooler.Node{
		Network: "tcp", Addr: e.listener.Addr().String(),
		Dial: (&net.Dialer{}).DialContext,
	}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		s := p.Stats()
		if s.Admitted != s.Answered+s.Failed+s.Abandoned || s.InFlight != 0 || s.OpenConnections != 0 || s.Lanes != 0 {
			t.Errorf("after Close: %+v", s)
		}
	})
	return p
}

// stress is one caller: it asks, in many ways, and leaves, in others. Every byte
// that it receives must be of what it has asked for.
type stress struct {
	*testing.T
	pool    *pooler.Pool
	session *pooler.Session
	name    string
	rnd     *rand.Rand
	counts  *[4]atomic.Int64 // answered, late, lost, left
}

func (s *stress) run(more func() bool) {
	for n := 0; more() && !s.Failed(); {
		r := pooler.NewRider()
		for s.round(r, &n) && more() {
			continue
		}
		r.Close()
	}
}

// round makes one request or more; it reports whether the rider can be used again.
func (s *stress) round(r *pooler.Rider, n *int) bool {
	sh, err := s.pool.Share(context.Background(), pooler.Request{Session: s.session})
	if err != nil {
		s.Errorf("Share: %v", err)
		return false
	}
	var want strings.Builder
	for part := range 1 + s.rnd.IntN(3)/2 {
		sent := want.Len()
		x := pooler.Exchange{Again: s.rnd.IntN(2) == 0, Follows: part > 0, Deadline: time.Now().Add(10 * time.Second)}
		for range 1 + s.rnd.IntN(4)*s.rnd.IntN(2) {
			*n++
			tag := fmt.Sprintf("%s-%d", s.name, *n)
			size := strconv.Itoa([]int{10, 10, 10, 200, 5000, 40_000, 150_000}[min(s.rnd.IntN(7), s.rnd.IntN(7))])
			padding := strings.Repeat("p", []int{0, 0, 0, 20_000, 50_000, 90_000}[min(s.rnd.IntN(6), s.rnd.IntN(6))])
			x.Request = resp.AppendCommand(x.Request, "ECHO", tag, size, padding)
			x.First = max(x.First, 1)
			x.Replies++
			want.WriteString(bigReply(tag, size))
		}
		if err := sh.Submit(r, x); err != nil {
			if !errors.Is(err, pooler.ErrNotShared) && !errors.Is(err, pooler.ErrLost) {
				s.Errorf("Submit: %v", err)
				return false
			}
			if part == 0 {
				return true
			}
			s.receive(r, want.String()[:sent]) // what it goes on with is gone
			return false
		}
	}
	if s.rnd.IntN(20) == 0 {
		time.Sleep(time.Duration(s.rnd.IntN(2000)) * time.Microsecond)
	}
	return s.receive(r, want.String())
}

func (s *stress) receive(r *pooler.Rider, want string) bool {
	p := make([]byte, []int{1, 64, 4 << 10, 16 << 10, 20_000, 64 << 10, 256 << 10}[s.rnd.IntN(7)])
	if len(want) > 20_000 && len(p) == 1 {
		p = make([]byte, 1000)
	}
	by, leave, closing := time.Now().Add(20*time.Second), false, false
	var timer *time.Timer
	switch s.rnd.IntN(12) {
	case 0:
		by, leave = time.Now().Add(time.Duration(s.rnd.IntN(1000))*time.Microsecond), true
	case 1:
		timer, leave, closing = time.AfterFunc(time.Duration(s.rnd.IntN(1000))*time.Microsecond, r.Close), true, true
	case 2:
		timer = time.AfterFunc(time.Duration(s.rnd.IntN(1000))*time.Microsecond, r.Interrupt)
	}
	for {
		n, done, err := r.Receive(p, by)
		if n > len(want) || string(p[:n]) != want[:n] {
			s.Errorf("%s: FOREIGN: received %.100q, want %.100q", s.name, p[:n], want)
			return false
		}
		want = want[n:]
		clear(p)
		switch {
		case done:
			if want != "" && !closing { // what is there at Close is dropped
				s.Errorf("%s: done, and %d bytes are missing", s.name, len(want))
			}
			s.counts[0].Add(1)
			return timer == nil || timer.Stop()
		case err == nil, errors.Is(err, pooler.ErrInterrupted):
		case errors.Is(err, os.ErrDeadlineExceeded) && leave:
			s.counts[1].Add(1)
			if s.rnd.IntN(2) == 0 {
				return false
			}
			by, leave = time.Now().Add(20*time.Second), false // reads on
		case errors.Is(err, pooler.ErrLost):
			s.counts[2].Add(1)
			r.Forgive()
			return timer == nil || timer.Stop()
		case errors.Is(err, net.ErrClosed) && leave:
			s.counts[3].Add(1)
			return false
		default:
			s.Errorf("%s: Receive: %v", s.name, err)
			return false
		}
	}
}

func TestNoRiderEverGetsAnothersReply(t *testing.T) {
	for _, lanes := range []int{1, 3} {
		e := newEcho(t)
		e.faults.Store(true)
		p := e.pool(t, pooler.Config{
			SharedConns: lanes, MaxOpenConns: 6, WaitTimeout: 10 * time.Second, FailFastAfter: -1,
			ConnMaxLifetime: 150 * time.Millisecond, HealthCheckInterval: 20 * time.Millisecond,
		})
		var counts [4]atomic.Int64
		var wg sync.WaitGroup
		sessions := []*pooler.Session{pooler.NewSession(), pooler.NewSession()}
		// For a second, and on a machine that is too busy for that until all was tried.
		until := time.Now().Add(time.Second)
		more := func() bool {
			tried := true
			for i := range counts {
				tried = tried && counts[i].Load() > 0
			}
			return time.Now().Before(until) || !tried && time.Now().Before(until.Add(time.Minute))
		}
		for i := range 24 {
			s := &stress{t, p, sessions[i%5/4], fmt.Sprint("caller", i), rand.New(rand.NewPCG(uint64(i), uint64(lanes))), &counts}
			wg.Go(func() { s.run(more) })
		}
		wg.Go(func() { // and leases beside them
			for more() {
				c, err := p.Get(context.Background(), pooler.Request{Session: sessions[0]})
				if err != nil {
					t.Errorf("Get: %v", err)
					return
				}
				o := pooler.Answered
				if got, err := exchange(c, "ECHO", "lease", "20"); err != nil {
					o = pooler.Failed
				} else if got != bigReply("lease", "20") {
					t.Errorf("FOREIGN: a lease has received %q", got)
				}
				p.Put(c, o)
				time.Sleep(time.Millisecond)
			}
		})
		wg.Wait()
		t.Logf("%d answered, %d late, %d lost, %d left; %d dials, %v",
			counts[0].Load(), counts[1].Load(), counts[2].Load(), counts[3].Load(), p.Stats().Dials, p.Stats().Closes)
		for i := range counts {
			if counts[i].Load() == 0 {
				t.Errorf("what is counted by %d wasn't tried", i)
			}
		}
	}
}

// prompt is a peer that has answered each PING before it is asked for the reply.
type prompt struct {
	net.Conn
	owed int
}

func (p *prompt) Write(b []byte) (int, error) { p.owed++; return len(b), nil }

func (p *prompt) Read(b []byte) (int, error) {
	if p.owed == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	p.owed--
	return copy(b, "+PONG\r\n"), nil
}

func (*prompt) SetReadDeadline(time.Time) error  { return nil }
func (*prompt) SetWriteDeadline(time.Time) error { return nil }
func (*prompt) Close() error                     { return nil }

func TestARoundOnAWarmLaneAllocatesNothing(t *testing.T) {
	pt := newTester(t, pooler.Config{SharedConns: 1})
	pt.dialer.dial = func(context.Context, string, string) (net.Conn, error) { return &prompt{}, nil }
	sh := pt.share(pt.plain)
	r := pooler.NewRider()
	x := ask("PING")
	buf := make([]byte, 100)
	wantNoAllocs(t, "Submit+Receive", func() {
		x.Deadline = time.Now().Add(time.Minute)
		if err := sh.Submit(r, x); err != nil {
			t.Fatal(err)
		}
		if _, done, err := r.Receive(buf, x.Deadline); !done || err != nil {
			t.Fatal(done, err)
		}
	})
}
