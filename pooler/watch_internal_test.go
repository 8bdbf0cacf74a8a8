package pooler

import (
	"bytes"
	"net"
	"runtime"
	"testing"
	"time"
)

// A look that waits for the lane's lock is enough for everybody whose time is over
// meanwhile: on a busy machine there would be hundreds of them.
func TestLooksDoNotPileUpBehindTheLock(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	p := &Pool{start: time.Now()}
	l := newLane(p, NewConn(near, nil), &Shared{pool: p})
	l.mu.Lock()
	for range 100 {
		l.watch.by(l, p.now())
		time.Sleep(100 * time.Microsecond) // for a timer to go off, if there is one
	}
	var stacks [1 << 20]byte
	n := runtime.Stack(stacks[:], true)
	l.mu.Unlock()
	l.watch.stop()
	if looks := bytes.Count(stacks[:n], []byte("(*Lane).look(")); looks > 1 {
		t.Errorf("%d looks wait for the lane's lock; want 1", looks)
	}
}
