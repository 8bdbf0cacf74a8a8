package acceptance_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// impostor stands between a client and a real server, and is honest until a
// request mentions the bait: to that one it answers what attack writes.
type impostor struct {
	listener net.Listener
	server   string
	attack   func(w io.Writer)
	at       string // the bait; "" attacks as soon as it is dialed
	attacks  atomic.Int64
	wg       sync.WaitGroup
}

func newImpostor(t *testing.T, server, at string, attack func(io.Writer)) *impostor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &impostor{listener: l, server: server, attack: attack, at: at}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); p.wg.Wait() })
	return p
}

func (p *impostor) serve(client net.Conn) {
	defer client.Close()
	if p.at == "" {
		p.strike(client)
		return
	}
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	p.wg.Go(func() { _, _ = io.Copy(client, server) })
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte(p.at)) {
			p.strike(client)
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// strike attacks, and then waits for the client to hang up.
func (p *impostor) strike(client net.Conn) {
	p.attacks.Add(1)
	w := bufio.NewWriter(client)
	p.attack(w)
	_ = w.Flush()
	if tc, ok := client.(*net.TCPConn); ok && p.at != "" {
		_ = tc.SetReadDeadline(time.Now().Add(20 * time.Second))
	}
	_, _ = io.Copy(io.Discard, client)
}

// once writes s and waits.
func once(s string) func(io.Writer) {
	return func(w io.Writer) { _, _ = io.WriteString(w, s) }
}

// endless writes s until the client hangs up.
func endless(head, s string) func(io.Writer) {
	chunk := strings.Repeat(s, 64<<10/len(s))
	return func(w io.Writer) {
		_, err := io.WriteString(w, head)
		for err == nil {
			_, err = io.WriteString(w, chunk)
		}
	}
}

// attacks are what a hostile or broken peer may answer, and the reason for
// which its connection is closed.
var attacks = []struct {
	name   string
	answer func(io.Writer)
	reason pooler.CloseReason
}{
	{"garbage", once("HTTP/1.1 400 Bad Request\r\n\r\n"), pooler.CloseProtocol},
	{"binary garbage", once("\x00\xff\xfe\x16\x03\x01\r\n"), pooler.CloseProtocol},
	{"a string of 999,999,999,999 bytes", once("$999999999999\r\n"), pooler.CloseProtocol},
	{"a billion elements", once("*1000000000\r\n"), pooler.CloseProtocol},
	{"a length of 100,000 digits", once("$" + strings.Repeat("9", 100_000)), pooler.CloseProtocol},
	{"a negative length", once("*-7\r\n"), pooler.CloseProtocol},
	{"100,000 aggregates inside each other", once(strings.Repeat("*1\r\n", 100_000)), pooler.CloseProtocol},
	{"a body that doesn't end", once("$3\r\nabcdef\r\n"), pooler.CloseProtocol},
	{"a line that doesn't end", endless("+", "x"), pooler.CloseAbandoned},
	{"a reply that nobody asked for", once("$5\r\nvalue\r\n+OK\r\n"), pooler.CloseUnasked},
	{"an endless stream of replies", endless("", "$5\r\nvalue\r\n"), pooler.CloseUnasked},
	{"a frame cut short", once("$5\r\nva"), pooler.CloseAbandoned},
	{"a storm of pushes", endless("", ">2\r\n+x\r\n+y\r\n"), pooler.CloseAbandoned},
	{"an endless aggregate", endless("*67108864\r\n", ":1\r\n"), pooler.CloseAbandoned},
}

// awaitAttacks waits until the impostor has struck that often. If it doesn't, the
// load has to end before the test fails: others need the machine.
func (p *impostor) awaitAttacks(t *testing.T, s side, n int64, halt func(), and func() bool) {
	t.Helper()
	defer halt()
	testkit.Await(t, fmt.Sprintf("the impostor strikes %d times", n), func() bool {
		if p.attacks.Load() >= n && and() {
			return true
		}
		for _, node := range s.d.Nodes() {
			if st := node.Stats; st.Admitted > 100_000 && p.attacks.Load() == 0 {
				t.Fatalf("%d requests, and the impostor had none of them: %d dials, %d shared connections", st.Admitted, st.Dials, st.Lanes)
			}
		}
		return false
	})
}

// What a hostile peer answers ends that connection, for a reason that shows,
// and nothing else. Every request leases, so that the impostor's connections
// have callers of their own.
func TestAHostilePeerLosesItsConnectionAndNothingElse(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, attack := range attacks {
		t.Run(attack.name, func(t *testing.T) {
			testkit.Works(t)
			server := testkit.Start(t, testkit.Redis)
			server.Do(t, "SET", "constant", "value")
			server.Do(t, "SET", "bait", "value")
			peer := newImpostor(t, server.Addr, "bait", attack.answer)
			// Each second connection is the impostor's.
			var n atomic.Int64
			dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
				if n.Add(1)%2 == 0 {
					addr = peer.listener.Addr().String()
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			s := ourSide(t, drivertest.Leased(driver.Config{Dial: dial, Pool: pooler.Config{MaxOpenConns: 8, HealthCheckTimeout: 100 * time.Millisecond}}),
				redis.Options{Addr: server.Addr, Protocol: 3, ContextTimeoutEnabled: true})
			before := takeSample()
			stop := make(chan struct{})
			saw := new(tally)
			wg := s.drive(t, stop, 8, saw)
			// The bait: reads that the impostor's connections answer, and others.
			var baited, foreign atomic.Int64
			bait := repeat(t, stop, 4, func(int, int) {
				ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
				got, err := s.rdb.Get(ctx, "bait").Result()
				cancel()
				baited.Add(1)
				if err == nil && got != "value" {
					foreign.Add(1)
				}
				if errors.Is(err, pooler.ErrUnknownOutcome) {
					t.Errorf("a read ended with %v", err)
				}
			})
			var after sample
			halt := func() { after = takeSample(); close(stop); wg.Wait(); bait.Wait() }
			peer.awaitAttacks(t, s, 5, halt, func() bool { return s.stats(t).Closes[attack.reason] > 0 })
			st := s.settled(t)
			t.Logf("%d attacks in %d reads; closes %v; %d other reads, %d failed; heap %d then %d KiB%s", peer.attacks.Load(), baited.Load(), st.Closes,
				saw.reads.Load(), saw.failedReads.Load(), before.heap>>10, after.heap>>10, saw.failures())
			if saw.failedReads.Load() != 0 || saw.never.Load() != 0 || saw.unknown.Load() != 0 || saw.wrong.Load() != 0 {
				t.Errorf("%d reads and %d INCR on other connections failed, %d ended unknown, %d replies were wrong", saw.failedReads.Load(), saw.never.Load(), saw.unknown.Load(), saw.wrong.Load())
			}
			if foreign.Load() != 0 {
				t.Errorf("%d reads of the bait got something else", foreign.Load())
			}
			if after.heap > before.heap+256<<20 {
				t.Errorf("the heap grew from %d to %d bytes", before.heap, after.heap)
			}
			saw.checkCounter(t, server.Do(t, "GET", "counter:"+s.name))
		})
	}
}

// A peer that attacks before the handshake is a failed dial, and the next one
// may be better.
func TestAHostilePeerInTheHandshakeIsAFailedDial(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, attack := range attacks {
		if attack.reason == pooler.CloseAbandoned || attack.reason == pooler.CloseUnasked {
			continue // those last as long as DialTimeout, or look like an answer
		}
		t.Run(attack.name, func(t *testing.T) {
			testkit.Works(t)
			server := testkit.Start(t, testkit.Redis)
			peer := newImpostor(t, server.Addr, "", attack.answer)
			var n atomic.Int64
			dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
				if n.Add(1)%2 == 0 {
					addr = peer.listener.Addr().String()
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			s := ourSide(t, drivertest.Leased(driver.Config{Dial: dial, Pool: pooler.Config{MaxOpenConns: 8, MaxIdleConns: 1}}), redis.Options{Addr: server.Addr})
			s.warm(t, 1)
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			stop := make(chan struct{})
			saw := new(tally)
			wg := s.drive(t, stop, 16, saw)
			halt := func() { close(stop); wg.Wait() }
			peer.awaitAttacks(t, s, 5, halt, func() bool { return true })
			st := s.settled(t)
			total := m.TotalAlloc
			runtime.ReadMemStats(&m)
			t.Logf("%d attacks, %d dials, %d of them failed; %d reads, %d failed; %d KiB allocated; last error %q", peer.attacks.Load(), st.Dials, st.DialErrors, saw.reads.Load(), saw.failedReads.Load(), (m.TotalAlloc-total)>>10, st.LastDialError)
			if saw.failedReads.Load() != 0 || saw.never.Load() != 0 || saw.unknown.Load() != 0 || saw.wrong.Load() != 0 {
				t.Errorf("%d reads and %d INCR failed, %d ended unknown, %d replies were wrong%s", saw.failedReads.Load(), saw.never.Load(), saw.unknown.Load(), saw.wrong.Load(), saw.failures())
			}
			if st.DialErrors == 0 {
				t.Error("no dial has failed")
			}
		})
	}
}
