package pooler_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// share returns the shared connections of the session, which must work.
func (pt *tester) share(s *pooler.Session) *pooler.Lanes {
	pt.Helper()
	sh, err := pt.pool.Share(context.Background(), pooler.Request{Session: s, Name: "GET"})
	if err != nil || sh == nil {
		pt.Fatalf("Share: %v, %v", sh, err)
	}
	return sh
}

// ask is an exchange of one command.
func ask(args ...string) pooler.Exchange { return pipeline(args) }

// pipeline is an exchange of several commands.
func pipeline(commands ...[]string) pooler.Exchange {
	x := pooler.Exchange{Replies: len(commands)}
	for _, args := range commands {
		x.Request = resp.AppendCommand(x.Request, args...)
		if x.First == 0 {
			x.First = len(x.Request)
		}
	}
	return x
}

// bulk is a reply.
func bulk(s string) string { return string(testkit.ReplyBulk(s)) }

// ride is a caller of its own: a goroutine that submits an exchange and receives
// until the replies are in, or something ends it.
type ride struct {
	pt    *tester
	rider *pooler.Rider
	x     pooler.Exchange
	size  int       // of the memory that it receives into
	by    time.Time // ends a Receive

	done    chan struct{}
	replies []byte
	err     error
	took    time.Duration
	used    [][]byte // memory that Receive has returned from
	ran     bool     // by what the rider said after a loss
	cause   error
}

// foul is what memory is filled with when Receive has returned.
const foul = 0xEE

// submit sends the exchange, which must work, and receives nothing.
func (pt *tester) submit(sh *pooler.Lanes, x pooler.Exchange) *ride {
	pt.Helper()
	r := &ride{pt: pt, rider: pooler.NewRider(), x: x, size: 4 << 10, done: make(chan struct{})}
	if err := sh.Submit(r.rider, x); err != nil {
		pt.Fatalf("Submit: %v", err)
	}
	return r
}

// ride starts a ride and returns when all that happens now has happened.
func (pt *tester) ride(sh *pooler.Lanes, x pooler.Exchange) *ride {
	r := &ride{pt: pt, rider: pooler.NewRider(), x: x, size: 4 << 10, done: make(chan struct{})}
	r.begin(sh)
	pt.settle()
	return r
}

// submitting starts a Submit on a goroutine; nothing is received.
func (pt *tester) submitting(sh *pooler.Lanes, x pooler.Exchange) *ride {
	r := &ride{pt: pt, rider: pooler.NewRider(), x: x, size: 4 << 10, done: make(chan struct{})}
	began := time.Now()
	go func() {
		defer r.end(began)
		r.err = sh.Submit(r.rider, x)
	}()
	pt.settle()
	return r
}

// wantSubmitted says that Submit has returned.
func (r *ride) wantSubmitted() {
	r.pt.Helper()
	if !r.ended() || r.err != nil {
		r.pt.Fatalf("Submit still waits, or has failed: %v", r.err)
	}
}

// begin submits and receives on a goroutine.
func (r *ride) begin(sh *pooler.Lanes) {
	began := time.Now()
	go func() {
		defer r.end(began)
		if r.err = sh.Submit(r.rider, r.x); r.err == nil {
			r.receiveAll()
		}
	}()
}

// receive receives on a goroutine what was submitted.
func (r *ride) receive() *ride {
	r.pt.settle()
	r.begun()
	r.pt.settle()
	return r
}

// begun is receive without waiting for what happens now.
func (r *ride) begun() {
	r.done = make(chan struct{})
	began := time.Now()
	go func() {
		defer r.end(began)
		r.receiveAll()
	}()
}

func (r *ride) end(began time.Time) {
	r.took = time.Since(began)
	close(r.done)
}

// receiveAll receives until no more is to come. No memory is used twice.
func (r *ride) receiveAll() {
	for {
		p := make([]byte, r.size)
		n, done, err := r.rider.Receive(p, r.by)
		r.replies = append(r.replies, p[:n]...)
		for i := range p {
			p[i] = foul
		}
		if r.used = append(r.used, p); len(r.used) > 16 {
			r.used = r.used[1:]
		}
		if r.err = err; errors.Is(err, pooler.ErrLost) {
			r.ran, r.cause = r.rider.Lost()
			r.rider.Forgive() // that was it
		}
		if done || err != nil {
			return
		}
	}
}

// wantClean fails if something was written where Receive had returned from.
func (r *ride) wantClean() {
	r.pt.Helper()
	for _, p := range r.used {
		if n := len(p) - bytes.Count(p, []byte{foul}); n > 0 {
			r.pt.Errorf("%d bytes of %d were written after Receive had returned", n, len(p))
		}
	}
}

func (r *ride) ended() bool {
	r.pt.settle()
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// await lets fake time pass until the ride ends.
func (r *ride) await() *ride {
	<-r.done
	return r
}

func (r *ride) wantWaiting() {
	r.pt.Helper()
	if r.ended() {
		r.pt.Fatalf("the ride has ended with %.100q, %v; want it to wait", r.replies, r.err)
	}
}

// wantReply says which replies have come by now.
func (r *ride) wantReply(want string) {
	r.pt.Helper()
	if !r.ended() {
		r.pt.Fatalf("the ride still waits, want %.100q", want)
	}
	if r.err != nil || string(r.replies) != want {
		r.pt.Fatalf("received %d bytes %.100q, %v; want %d bytes %.100q", len(r.replies), r.replies, r.err, len(want), want)
	}
	r.wantClean()
}

// wantErr says which error the ride has ended with by now.
func (r *ride) wantErr(want error) {
	r.pt.Helper()
	if !r.ended() {
		r.pt.Fatalf("the ride still waits, want %v", want)
	}
	if !errors.Is(r.err, want) {
		r.pt.Fatalf("the ride has ended with %.100q, %v; want %v", r.replies, r.err, want)
	}
	r.wantClean()
}

// wantLost says that the connection was lost, and whether the server may have
// run something.
func (r *ride) wantLost(ran bool) {
	r.pt.Helper()
	r.wantErr(pooler.ErrLost)
	if r.cause == nil || r.ran != ran {
		r.pt.Errorf("lost for %v, ran: %v; want a cause, ran: %v", r.cause, r.ran, ran)
	}
}

// hand has the test itself play the server.
type hand struct {
	pt     *tester
	buffer int

	mu    sync.Mutex
	wires []*lineEnd
}

// lineEnd is the server's end of a connection.
type lineEnd struct {
	*testkit.MemConn
	pt     *tester
	client *testkit.MemConn
	sent   *writes // by the client, write by write
}

// byHand runs the script in fake time; the buffers of its connections hold so
// many bytes.
func byHand(t *testing.T, cfg pooler.Config, buffer int, script func(pt *tester, h *hand)) {
	t.Helper()
	bubble(t, cfg, func(pt *tester) {
		h := &hand{pt: pt, buffer: buffer}
		pt.dialer.dial = h.dial
		script(pt, h)
	})
}

func (h *hand) dial(context.Context, string, string) (net.Conn, error) {
	client, server := testkit.Pair(h.buffer, &net.TCPAddr{Port: 1}, &net.TCPAddr{Port: 2})
	w := &lineEnd{MemConn: server, client: client, pt: h.pt, sent: &writes{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wires = append(h.wires, w)
	return recordedConn{client, w.sent}, nil
}

// wire returns the i-th connection, from 0.
func (h *hand) wire(i int) *lineEnd {
	h.pt.Helper()
	h.pt.settle()
	h.mu.Lock()
	defer h.mu.Unlock()
	if i >= len(h.wires) {
		h.pt.Fatalf("%d connections were opened, want one more", len(h.wires))
	}
	return h.wires[i]
}

// count is the number of the client's writes.
func (w *writes) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.each)
}

// hear reads the exchanges' requests, which must come next and in this order.
func (w *lineEnd) hear(rides ...*ride) {
	w.pt.Helper()
	var want strings.Builder
	for _, r := range rides {
		want.Write(r.x.Request)
	}
	got := make([]byte, want.Len())
	_ = w.SetReadDeadline(time.Now().Add(time.Second))
	n, err := io.ReadFull(w, got)
	if err != nil || string(got) != want.String() {
		w.pt.Fatalf("the server has read %.200q, %v; want %.200q", got[:n], err, want.String())
	}
	w.pt.settle()
}

// say writes to the client.
func (w *lineEnd) say(raw string) {
	w.pt.Helper()
	if _, err := w.Write([]byte(raw)); err != nil {
		w.pt.Fatalf("the server can't write: %v", err)
	}
	w.pt.settle()
}

// wantSilence says that nothing more was sent.
func (w *lineEnd) wantSilence() {
	w.pt.Helper()
	w.pt.settle()
	if n := w.Buffered(); n != 0 {
		b := make([]byte, n)
		n, _ = w.Read(b)
		w.pt.Fatalf("the client has sent %.200q more", b[:n])
	}
}

// drain answers a PING of the pool's own, which must come next.
func (w *lineEnd) drain() {
	w.pt.Helper()
	w.hear(&ride{x: ask("PING")})
	w.say("+PONG\r\n")
}

func (pt *tester) wantLanes(n int) {
	pt.Helper()
	pt.settle()
	if got := pt.pool.Stats().Lanes; got != n {
		pt.Fatalf("%d shared connections, want %d", got, n)
	}
}

// wantEnds says how the requests have ended.
func (pt *tester) wantEnds(answered, failed, abandoned int64) {
	pt.Helper()
	pt.settle()
	s := pt.pool.Stats()
	if s.Answered != answered || s.Failed != failed || s.Abandoned != abandoned {
		pt.Errorf("answered %d, failed %d, abandoned %d (in flight %d); want %d, %d, %d",
			s.Answered, s.Failed, s.Abandoned, s.InFlight, answered, failed, abandoned)
	}
}
