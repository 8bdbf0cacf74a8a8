package driver_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// What the tests of shared connections (lanes) have in common.

// split is what callers have seen whose reads and writes are told apart.
type split struct{ reads, writes tally }

// driveSplit has n callers work until stop: each 8th call an INCR of the
// counter, the rest ECHOes of a payload that no other call has.
func (s side) driveSplit(stop <-chan struct{}, n int, saw *split) *sync.WaitGroup {
	return repeat(stop, n, func(id, i int) {
		if i%8 == 0 {
			saw.writes.incr(saw.writes.call(func() error { return s.rdb.Incr(context.Background(), "counter:"+s.name).Err() }))
		} else {
			s.echoOnce(saw, fmt.Sprintf("%d-%d", id, i))
		}
	})
}

// echoOnce is one read, with a payload that no other call has.
func (s side) echoOnce(saw *split, payload string) {
	err := saw.reads.call(func() error {
		got, err := s.rdb.Echo(context.Background(), payload).Result()
		if err == nil && got != payload {
			saw.reads.wrong.Add(1)
		}
		return err
	})
	saw.reads.reads.Add(1)
	if err != nil {
		saw.reads.failedReads.Add(1)
	}
}

func (saw *split) String() string {
	return fmt.Sprintf("%d reads, %d failed, slowest %v; %d INCR acknowledged, %d unknown, %d failed otherwise, slowest %v%s%s",
		saw.reads.reads.Load(), saw.reads.failedReads.Load(), time.Duration(saw.reads.slowest.Load()).Round(time.Millisecond),
		saw.writes.incrs.Load(), saw.writes.unknown.Load(), saw.writes.never.Load(), time.Duration(saw.writes.slowest.Load()).Round(time.Millisecond),
		saw.reads.failures(), saw.writes.failures())
}

// check wants no failed read, nobody else's reply, and a counter that is what
// the callers were told.
func (saw *split) check(t *testing.T, counter string) {
	t.Helper()
	if n := saw.reads.failedReads.Load(); n != 0 {
		t.Errorf("%d reads failed", n)
	}
	if n := saw.reads.wrong.Load(); n != 0 {
		t.Errorf("%d replies belong to other calls", n)
	}
	saw.writes.checkCounter(t, counter)
}

// raw is a bare handle of the side, to a real server.
func (s side) raw(t *testing.T, addr string) *virtual {
	t.Helper()
	nc, err := s.d.Options(&redis.Options{Addr: addr}).Dialer(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { _ = nc.Close() })
	return &virtual{Conn: nc, l: &lab{T: t, d: s.d}, r: bufio.NewReader(nc)}
}

// robber stands between a client and a real server. It lets requests pass, but
// where one mentions the bait it cuts the connection when the server answers:
// what was asked has run, and its reply is lost.
type robber struct {
	listener net.Listener
	server   string
	bait     []byte
	left     atomic.Int64 // times to do it
	robbed   atomic.Int64
	wg       sync.WaitGroup
}

func newRobber(t *testing.T, server, bait string) *robber {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &robber{listener: l, server: server, bait: []byte(bait)}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); p.wg.Wait() })
	return p
}

func (p *robber) serve(client *net.TCPConn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		_ = client.Close()
		return
	}
	var robbing atomic.Bool
	end := func() { _, _ = client.Close(), server.Close() }
	p.wg.Go(func() {
		defer end()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if robbing.Load() {
				_ = client.SetLinger(0)
				p.robbed.Add(1)
				return
			}
			if err != nil {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	defer end()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], p.bait) && p.left.Add(-1) >= 0 {
			robbing.Store(true)
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// ran is how often the server has run a command, "" for never.
func ran(t *testing.T, server *testkit.Server, command string) string {
	t.Helper()
	var calls string
	for line := range bytes.Lines([]byte(server.Do(t, "INFO", "commandstats"))) {
		if rest, ok := bytes.CutPrefix(line, []byte("cmdstat_"+command+":calls=")); ok {
			n, _, _ := bytes.Cut(rest, []byte(","))
			calls = string(n)
		}
	}
	return calls
}
