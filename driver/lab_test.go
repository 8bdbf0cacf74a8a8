package driver_test

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// labAddr is an IP literal: in a bubble nobody may look up names.
const labAddr = "10.0.0.1:6379"

// lab is a driver over a fake server, in a bubble of its own.
type lab struct {
	*testing.T
	f      *testkit.Fake
	d      *driver.Driver
	plain  *redis.Options // of the client whose handles most tests use
	leased bool           // every request leases its connection
}

// What the tests with real servers use too.
var (
	newDriver = drivertest.New
	bothWays  = drivertest.BothWays
	leased    = drivertest.Leased
	leases    = drivertest.Leases
)

// inBothLabs runs the test both ways, in a bubble each.
func inBothLabs(t *testing.T, cfg driver.Config, run func(l *lab), opts ...testkit.FakeOption) {
	t.Helper()
	bothWays(t, func(t *testing.T, shared int) {
		cfg := cfg
		cfg.Pool.SharedConns = shared
		inLab(t, cfg, run, opts...)
	})
}

// inLab runs the test in a bubble. At its end the pool's books must balance and
// nothing may be left.
func inLab(t *testing.T, cfg driver.Config, run func(l *lab), opts ...testkit.FakeOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{T: t, f: testkit.NewFake(opts...), leased: cfg.Pool.SharedConns == -1}
		t.Cleanup(l.f.Close)
		t.Cleanup(l.checkBooks)
		if cfg.Dial == nil {
			cfg.Dial = l.f.Dial
		}
		if cfg.Logger == nil {
			cfg.Logger = slog.New(slog.DiscardHandler)
		}
		l.d = newDriver(t, cfg)
		l.plain = l.d.Options(&redis.Options{Addr: labAddr})
		run(l)
	})
}

// one is a configuration with a single connection: whatever comes next has to
// use the one that was returned.
func one() driver.Config { return driver.Config{Pool: pooler.Config{MaxOpenConns: 1}} }

// checkBooks checks, when all is closed, that every admitted request has ended
// once.
func (l *lab) checkBooks() {
	l.Helper()
	synctest.Wait() // for dials that are being given up
	for _, n := range l.d.Nodes() {
		s := n.Stats
		if s.Admitted != s.Answered+s.Failed+s.Abandoned || s.InFlight != 0 || s.Waiting != 0 || s.OpenConnections != 0 || n.Handles != 0 {
			l.Errorf("the books don't balance: admitted %d, answered %d, failed %d, abandoned %d; in flight %d, waiting %d, open %d, handles %d",
				s.Admitted, s.Answered, s.Failed, s.Abandoned, s.InFlight, s.Waiting, s.OpenConnections, n.Handles)
		}
	}
}

// stats returns the only node's.
func (l *lab) stats() pooler.Stats {
	l.Helper()
	nodes := l.d.Nodes()
	if len(nodes) != 1 {
		l.Fatalf("%d nodes", len(nodes))
	}
	return nodes[0].Stats
}

// client returns a go-redis client that doesn't retry unless it is told to.
func (l *lab) client(change ...func(*redis.Options)) *redis.Client {
	o := &redis.Options{Addr: labAddr, MaxRetries: -1}
	for _, c := range change {
		c(o)
	}
	rdb := redis.NewClient(l.d.Options(o))
	l.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// stock returns a go-redis client without a driver.
func (l *lab) stock(change ...func(*redis.Options)) *redis.Client {
	o := &redis.Options{
		Addr: labAddr, MaxRetries: -1, Dialer: l.f.Dial, PoolSize: 100, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	for _, c := range change {
		c(o)
	}
	rdb := redis.NewClient(o)
	l.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// wantRan checks what the server has executed, handshakes apart, as lines
// "connection COMMAND args".
func (l *lab) wantRan(want ...string) {
	l.Helper()
	if diff := cmp.Diff(want, l.ran()); diff != "" {
		l.Errorf("executed (-want +got):\n%s", diff)
	}
}

func (l *lab) ran() []string {
	return slices.DeleteFunc(l.f.Commands(), func(s string) bool {
		_, s, _ = strings.Cut(s, " ")
		return strings.HasPrefix(s, "HELLO ") || strings.HasPrefix(s, "CLIENT SETINFO ")
	})
}

// virtual is a bare handle, as go-redis gets it.
type virtual struct {
	net.Conn
	l *lab
	r *bufio.Reader
}

// handle returns a new one of a client, with deadlines that no test waits for. It is
// closed at the end. With a change it is another client's.
func (l *lab) handle(change ...func(*redis.Options)) *virtual {
	l.Helper()
	of := l.plain
	if len(change) > 0 {
		o := &redis.Options{Addr: labAddr}
		for _, c := range change {
			c(o)
		}
		of = l.d.Options(o)
	}
	return l.handleOf(of)
}

// handleOf returns a handle of the client that has these options of the driver's.
func (l *lab) handleOf(of *redis.Options) *virtual {
	l.Helper()
	nc, err := of.Dialer(l.Context(), "tcp", labAddr)
	if err != nil {
		l.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(10 * time.Minute))
	l.Cleanup(func() { _ = nc.Close() })
	return &virtual{Conn: nc, l: l, r: bufio.NewReader(nc)}
}

// frames returns commands, given as words with spaces between, as they are sent.
func frames(lines ...string) string {
	var b []byte
	for _, line := range lines {
		b = resp.AppendCommand(b, strings.Fields(line)...)
	}
	return string(b)
}

// send writes commands in one piece.
func (v *virtual) send(lines ...string) {
	v.l.Helper()
	v.write(frames(lines...))
}

func (v *virtual) write(raw string) {
	v.l.Helper()
	if n, err := io.WriteString(v, raw); err != nil || n != len(raw) {
		v.l.Fatalf("write: %d, %v", n, err)
	}
}

// want reads exactly these bytes; spaces stand for CRLF.
func (v *virtual) want(reply string) {
	v.l.Helper()
	reply = strings.ReplaceAll(reply, " ", "\r\n") + "\r\n"
	got := make([]byte, len(reply))
	n, err := io.ReadFull(v.r, got)
	if diff := cmp.Diff(reply, string(got[:n])); diff != "" || err != nil {
		v.l.Fatalf("error %v, reply (-want +got):\n%s", err, diff)
	}
}

// wantLine reads a line that begins like that.
func (v *virtual) wantLine(prefix string) {
	v.l.Helper()
	line, err := v.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		v.l.Fatalf("error %v, line %q, want %q", err, line, prefix)
	}
}

// do sends one command and wants that reply.
func (v *virtual) do(command, reply string) {
	v.l.Helper()
	v.send(command)
	v.want(reply)
}

// failure reads until there is an error, and returns it.
func (v *virtual) failure() error {
	v.l.Helper()
	_, err := io.Copy(io.Discard, v.r)
	if err == nil {
		return io.EOF
	}
	return err
}

// close ends the handle and lets the pool see to its connection.
func (v *virtual) close() {
	v.l.Helper()
	if err := v.Close(); err != nil {
		v.l.Fatal(err)
	}
	synctest.Wait()
}

// expire sets a read deadline that long from now and waits until it has passed.
func (v *virtual) expire(d time.Duration) {
	v.l.Helper()
	if err := v.SetReadDeadline(time.Now().Add(d)); err != nil {
		v.l.Fatal(err)
	}
	if err := v.failure(); !errors.Is(err, os.ErrDeadlineExceeded) {
		v.l.Fatalf("read: %v, want a timeout", err)
	}
}

// wantErr checks an error's identity.
func (l *lab) wantErr(err, want error) {
	l.Helper()
	if !errors.Is(err, want) {
		l.Errorf("error %v (%T), want %v", err, err, want)
	}
}

// slow makes the server answer GETs of keys that begin with "slow" with the
// key, after that time. Others are answered at once, with the key too.
func (l *lab) slow(d time.Duration) {
	l.f.Handle("GET", func(_ *testkit.FakeConn, args []string) []byte {
		if strings.HasPrefix(args[1], "slow") {
			time.Sleep(d)
		}
		return testkit.ReplyBulk(args[1])
	})
}
