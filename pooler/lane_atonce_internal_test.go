package pooler

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// onTCP returns a lane on a socket whose send buffer has that size, 0: the system's,
// and the peer's end.
func onTCP(t *testing.T, buffer int) (*lane, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	if buffer > 0 {
		_, _ = near.(*net.TCPConn).SetWriteBuffer(buffer), far.(*net.TCPConn).SetReadBuffer(buffer)
	}
	p := &Pool{start: time.Now()}
	l := newLane(p, newConn(near, nil), &Lanes{pool: p})
	t.Cleanup(l.watch.stop)
	return l, far
}

func TestALoneRequestThatTheSocketTakesIsWrittenByItsCallerWithoutACopy(t *testing.T) {
	l, far := onTCP(t, 0)
	if l.conn.socket.bare == nil {
		t.Skip("a write has to wait here")
	}
	x := &Exchange{Request: bytes.Repeat([]byte("x"), 40<<10), Replies: 1, First: 40 << 10}
	if ok, err := l.submit(NewRider(), x); !ok || err != nil {
		t.Fatal(ok, err)
	}
	l.mu.Lock()
	if l.outbox.writing || cap(l.outbox.b) > 0 {
		t.Errorf("somebody writes: %v; %d bytes were copied", l.outbox.writing, cap(l.outbox.b))
	}
	l.mu.Unlock()
	if _, err := io.ReadFull(far, make([]byte, len(x.Request))); err != nil {
		t.Error(err)
	}
}

// A caller has to be free to read while the peer waits for that before it reads on.
func TestALoneRequestThatTheSocketDoesNotTakeDoesNotHoldItsCaller(t *testing.T) {
	l, far := onTCP(t, 16<<10)
	var want []byte
	for i := range 3 {
		request := bytes.Repeat([]byte{'a' + byte(i)}, 64<<10)
		want = append(want, request...)
		done := make(chan error, 1)
		go func() {
			_, err := l.submit(NewRider(), &Exchange{Request: request, Replies: 1, First: len(request)})
			clear(request) // it isn't kept
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("Submit waits for the peer to read")
		}
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what was written is not what was submitted: %v", err)
	}
	l.pool.wg.Wait()
}
