package pooler_test

import (
	"context"
	"time"

	"github.com/everpool/everpool/pooler"
)

// pending is a Get on a goroutine of its own.
type pending struct {
	pt     *tester
	cancel context.CancelCauseFunc
	done   chan struct{}
	conn   *pooler.Conn
	err    error
	took   time.Duration
}

// begin starts a Get and returns when it has succeeded, failed or waits.
func (pt *tester) begin(r pooler.Request) *pending {
	ctx, cancel := context.WithCancelCause(context.Background())
	p := &pending{pt: pt, cancel: cancel, done: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(p.done)
		defer cancel(nil)
		p.conn, p.err = pt.pool.Get(ctx, r)
		p.took = time.Since(began)
	}()
	pt.settle()
	return p
}

// wait starts a Get of the session that has to wait.
func (pt *tester) wait(s *pooler.Session) *pending {
	pt.Helper()
	p := pt.begin(pooler.Request{Session: s, Name: "GET"})
	p.wantWaiting()
	return p
}

func (p *pending) ended() bool {
	p.pt.settle()
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *pending) wantWaiting() {
	p.pt.Helper()
	if p.ended() {
		p.pt.Fatalf("Get returned %v, %v; want it to wait", p.conn, p.err)
	}
}

// wantConn returns the connection that the Get has been given by now.
func (p *pending) wantConn() *pooler.Conn {
	p.pt.Helper()
	if !p.ended() {
		p.pt.Fatal("Get still waits, want a connection")
	}
	if p.err != nil {
		p.pt.Fatalf("Get: %v", p.err)
	}
	return p.conn
}

// wantErr is the error that the Get has ended with by now.
func (p *pending) wantErr(want error) *pooler.Error {
	p.pt.Helper()
	if !p.ended() {
		p.pt.Fatalf("Get still waits, want %v", want)
	}
	return p.pt.wantErr(p.err, want)
}

// await lets fake time pass until the Get ends.
func (p *pending) await() *pending {
	<-p.done
	return p
}
