package pooler

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// withDeadlines returns nc, or one that has deadlines if nc refuses them.
func withDeadlines(nc net.Conn) net.Conn {
	takes := true
	for _, by := range []time.Time{time.Now().Add(time.Hour), {}} {
		takes = takes && nc.SetReadDeadline(by) == nil && nc.SetWriteDeadline(by) == nil
	}
	if takes {
		return nc
	}
	t := &timedConn{Conn: nc, buf: make([]byte, readBuffer)}
	t.changed.L = &t.mu
	go t.fill()
	return t
}

// timedConn gives deadlines to a connection that refuses them, as those of ssh tunnels
// do. A goroutine reads from it, one buffer ahead, until it is closed, so that a Read
// ends by its deadline and no byte is lost. A Write can't be left like that: its
// deadline closes the connection.
type timedConn struct {
	net.Conn

	mu      sync.Mutex
	changed sync.Cond // what Read looks at, and fill
	buf     []byte    // fill's while it is empty
	r, w    int       // buf[r:w] is to be read
	err     error     // comes after that
	readBy  time.Time
	writeBy time.Time
	writing bool
	late    bool // the deadline of a Write has closed the connection
}

var errWriteCut = errors.New("everpool: closed, since a write was late and the connection has no deadlines")

// fill reads whenever all was taken.
func (t *timedConn) fill() {
	for {
		n, err := t.Conn.Read(t.buf)
		t.mu.Lock()
		if t.err == nil { // else it was closed
			t.r, t.w, t.err = 0, n, err
		}
		t.changed.Broadcast()
		for t.r < t.w && t.err == nil {
			t.changed.Wait()
		}
		over := t.err != nil
		t.mu.Unlock()
		if over {
			return
		}
	}
}

// Read returns what has come, or waits for it until the deadline.
func (t *timedConn) Read(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ahead(t.readBy) {
		if n, err := t.takeLocked(b); n > 0 || err != nil {
			return n, err
		}
		t.waitLocked()
	}
	return 0, os.ErrDeadlineExceeded
}

// take returns what has come, without waiting.
func (t *timedConn) take(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.takeLocked(b)
}

func (t *timedConn) takeLocked(b []byte) (int, error) {
	if t.r == t.w {
		return 0, t.err
	}
	n := copy(b, t.buf[t.r:t.w])
	if t.r += n; t.r == t.w {
		t.changed.Broadcast()
	}
	return n, nil
}

// waitLocked waits for a change, or the read deadline.
func (t *timedConn) waitLocked() {
	if t.readBy.IsZero() {
		t.changed.Wait()
		return
	}
	timer := time.AfterFunc(time.Until(t.readBy), t.stir)
	t.changed.Wait()
	timer.Stop()
}

func (t *timedConn) stir() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed.Broadcast()
}

// Write writes b. If its deadline passes meanwhile the connection is closed, and
// nobody knows how much was written: it returns len(b), since any of it may have been.
func (t *timedConn) Write(b []byte) (int, error) {
	t.mu.Lock()
	if !ahead(t.writeBy) {
		t.mu.Unlock()
		return 0, os.ErrDeadlineExceeded
	}
	t.writing = true
	if !t.writeBy.IsZero() {
		timer := time.AfterFunc(time.Until(t.writeBy), t.cut)
		defer timer.Stop()
	}
	t.mu.Unlock()
	n, err := t.Conn.Write(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writing = false
	if err != nil && t.late {
		return len(b), errWriteCut
	}
	return n, err
}

// cut closes the connection under a Write whose deadline has passed.
func (t *timedConn) cut() {
	t.mu.Lock()
	t.late = t.late || t.writing && !ahead(t.writeBy)
	late := t.late
	t.mu.Unlock()
	if late {
		_ = t.Conn.Close()
	}
}

// SetReadDeadline sets the deadline of Read, that which is under way too.
func (t *timedConn) SetReadDeadline(by time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.readBy = by
	t.changed.Broadcast()
	return nil
}

// Close ends all calls that are under way.
func (t *timedConn) Close() error {
	err := t.Conn.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = net.ErrClosed
	t.changed.Broadcast()
	return err
}

// SetWriteDeadline sets the deadline of Write. One that has passed cuts a Write that
// is under way; a later one than its own leaves it without.
func (t *timedConn) SetWriteDeadline(by time.Time) error {
	t.mu.Lock()
	t.writeBy = by
	t.mu.Unlock()
	t.cut()
	return nil
}

// SetDeadline sets both.
func (t *timedConn) SetDeadline(by time.Time) error {
	_ = t.SetReadDeadline(by)
	return t.SetWriteDeadline(by)
}
