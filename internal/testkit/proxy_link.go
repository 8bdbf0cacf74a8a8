package testkit

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// streamConn is what *net.TCPConn and *net.UnixConn have in common.
type streamConn interface {
	net.Conn
	CloseWrite() error
}

// proxyLink is one connection through the proxy. Per direction there is one
// goroutine that reads and one that writes, with a queue between them, so
// that a delay doesn't cost throughput.
type proxyLink struct {
	p      *Proxy
	client streamConn
	cut    [2]int64
	ended  context.Context // done when the link is closed
	end    context.CancelFunc

	// Guarded by p.mu.
	server streamConn // nil until dialed
	closed bool
	silent bool
	halved bool // the client was sent a FIN
}

// chunk is what one Read gave, and when it is due on the other side.
type chunk struct {
	data []byte
	err  error // behind data: the source has ended
	due  time.Time
}

const (
	chunkSize  = 16 << 10
	chunkQueue = 16 // bounded, so that a side that doesn't read holds up the other one
)

func newProxyLink(p *Proxy, client streamConn, cut [2]int64) *proxyLink {
	l := &proxyLink{p: p, client: client, cut: cut}
	l.ended, l.end = context.WithCancel(context.Background())
	return l
}

func (l *proxyLink) run() {
	if !l.gate() {
		return
	}
	conn, err := new(net.Dialer).DialContext(l.ended, l.p.network, l.p.target)
	if err != nil {
		l.close(true)
		return
	}
	if !l.attach(conn.(streamConn)) {
		_ = conn.Close()
		return
	}
	if l.cut[ToServer] == 0 || l.cut[ToClient] == 0 {
		l.close(true)
		return
	}
	done := make(chan struct{})
	l.p.wg.Go(func() {
		defer close(done)
		l.pump(ToClient)
	})
	l.pump(ToServer)
	<-done
	l.close(false)
}

func (l *proxyLink) attach(server streamConn) bool {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.server = server
	return !l.closed
}

// gate blocks while the proxy is frozen. It returns false if the link is
// closed.
func (l *proxyLink) gate() bool {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	for l.p.frozen && !l.closed {
		l.p.changed.Wait()
	}
	return !l.closed
}

// close ends the link, with an RST towards both sides if reset.
func (l *proxyLink) close(reset bool) {
	l.p.mu.Lock()
	if l.closed {
		l.p.mu.Unlock()
		return
	}
	l.closed = true
	l.p.links = slices.DeleteFunc(l.p.links, func(o *proxyLink) bool { return o == l })
	server := l.server
	l.p.changed.Broadcast()
	l.p.mu.Unlock()

	l.end()
	for _, c := range []streamConn{l.client, server} {
		switch {
		case c == nil:
		case reset:
			resetConn(c)
		default:
			_ = c.Close()
		}
	}
}

func (l *proxyLink) halfClose() {
	l.p.mu.Lock()
	l.halved = true
	l.p.mu.Unlock()
	_ = l.client.CloseWrite()
	if c, ok := l.client.(syscall.Conn); ok {
		for !finArrived(c) {
			time.Sleep(time.Millisecond)
		}
	}
}

// lossy says whether what goes in this direction is lost.
func (l *proxyLink) lossy(dir Direction) bool {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	return l.silent || l.halved && dir == ToClient
}

// pump moves one direction until it has ended.
func (l *proxyLink) pump(dir Direction) {
	src, dst := l.client, l.server
	if dir == ToClient {
		src, dst = dst, src
	}
	queue := make(chan chunk, chunkQueue)
	l.p.wg.Go(func() {
		defer close(queue)
		l.read(src, queue)
	})
	left := l.cut[dir]
	for c := range queue {
		if !l.forward(dir, dst, c, &left) {
			break
		}
	}
	for range queue { // let the reader go; it stops when the link is closed
	}
}

func (l *proxyLink) read(src net.Conn, queue chan<- chunk) {
	for {
		buf := make([]byte, chunkSize)
		n, err := src.Read(buf)
		if !l.gate() {
			return
		}
		l.p.mu.Lock()
		due := time.Now().Add(l.p.delay)
		l.p.mu.Unlock()
		select {
		case queue <- chunk{buf[:n], err, due}:
		case <-l.ended.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// forward delivers one chunk. It returns false when the direction has ended.
func (l *proxyLink) forward(dir Direction, dst streamConn, c chunk, left *int64) bool {
	if !l.waitDue(c.due) || !l.gate() {
		return false
	}
	if !l.lossy(dir) && len(c.data) > 0 {
		data, cut := c.data, false
		if *left >= 0 && int64(len(data)) >= *left {
			data, cut = data[:*left], true
		}
		if *left > 0 {
			*left -= int64(len(data))
		}
		if err := l.write(dir, dst, data); err != nil || cut {
			l.close(true)
			return false
		}
	}
	return c.err == nil || l.sourceEnded(dir, dst, c.err)
}

// sourceEnded passes on how a side has ended. It always returns false.
func (l *proxyLink) sourceEnded(dir Direction, dst streamConn, err error) bool {
	lossy := l.lossy(dir)
	switch {
	case lossy && dir == ToServer:
		l.close(false) // the client is gone: the hole has no mouth any more
	case lossy: // neither FIN nor RST comes out of a black hole
	case errors.Is(err, io.EOF):
		_ = dst.CloseWrite()
	default:
		l.close(true)
	}
	return false
}

func (l *proxyLink) write(dir Direction, dst net.Conn, data []byte) error {
	for len(data) > 0 {
		l.p.mu.Lock()
		n := len(data)
		if l.p.slice > 0 {
			n = min(n, l.p.slice)
		}
		l.p.mu.Unlock()
		// Counted first, so that whoever has the bytes finds them counted.
		l.p.bytes[dir].Add(int64(n))
		m, err := dst.Write(data[:n])
		if err != nil {
			l.p.bytes[dir].Add(int64(m - n))
			return err
		}
		data = data[n:]
		runtime.Gosched() // a chance for the other side to read the piece alone
	}
	return nil
}

// waitDue waits for the delay. It returns false if the link is closed.
func (l *proxyLink) waitDue(due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ended.Done():
		return false
	}
}
