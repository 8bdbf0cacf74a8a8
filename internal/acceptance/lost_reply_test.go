package acceptance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// robberies are what happens to a request whose reply is lost with its shared
// connection, by what the driver may send again: RetrySafe, RetryAll, RetryNone.
var robberies = []struct {
	name    string
	run     func(ctx context.Context, rdb redis.Cmdable) error
	command string
	ran     [3]string // how often the server has run it
	unknown [3]bool   // what the caller is told
	failed  bool      // the caller is told of a loss otherwise: go-redis repeats no transaction
}{
	{
		name:    "GET",
		run:     func(ctx context.Context, rdb redis.Cmdable) error { return rdb.Get(ctx, "bait").Err() },
		command: "get", ran: [3]string{"2", "2", "2"},
	},
	{
		name:    "SET",
		run:     func(ctx context.Context, rdb redis.Cmdable) error { return rdb.Set(ctx, "bait", "1", 0).Err() },
		command: "set", ran: [3]string{"2", "2", "1"}, unknown: [3]bool{false, false, true},
	},
	{
		name:    "INCR",
		run:     func(ctx context.Context, rdb redis.Cmdable) error { return rdb.Incr(ctx, "bait").Err() },
		command: "incr", ran: [3]string{"1", "2", "1"}, unknown: [3]bool{true, false, true},
	},
	{
		name: "a pipeline of GETs",
		run: func(ctx context.Context, rdb redis.Cmdable) error {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "bait"); p.Get(ctx, "bait"); return nil })
			return err
		},
		command: "get", ran: [3]string{"4", "4", "4"},
	},
	{
		name: "a pipeline with one INCR",
		run: func(ctx context.Context, rdb redis.Cmdable) error {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "bait"); p.Incr(ctx, "bait"); return nil })
			return err
		},
		command: "incr", ran: [3]string{"1", "2", "1"}, unknown: [3]bool{true, false, true},
	},
	{
		name: "a transaction",
		run: func(ctx context.Context, rdb redis.Cmdable) error {
			_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "bait"); p.Incr(ctx, "bait"); return nil })
			return err
		},
		command: "incr", ran: [3]string{"1", "1", "1"}, unknown: [3]bool{true, false, true}, failed: true,
	},
}

// A request that has run, and whose reply is lost with its shared connection, is
// run again where that is right and nowhere else; those beside it notice nothing.
func TestALostSharedReplyIsRetriedByTheRules(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	for _, retry := range []driver.Retry{driver.RetrySafe, driver.RetryAll, driver.RetryNone} {
		for _, theft := range robberies {
			t.Run(fmt.Sprintf("%s/%v", theft.name, retry), func(t *testing.T) {
				server.Do(t, "SET", "bait", "0")
				peer := newRobber(t, server.Addr, "bait")
				s := ourSide(t, driver.Config{Retry: retry}, redis.Options{Addr: peer.listener.Addr().String()})
				if err := s.rdb.Ping(context.Background()).Err(); err != nil {
					t.Fatal(err)
				}
				server.Do(t, "CONFIG", "RESETSTAT")
				peer.left.Store(1)
				err := theft.run(context.Background(), s.rdb)
				if n := ran(t, server, theft.command); n != theft.ran[retry] || peer.robbed.Load() != 1 {
					t.Errorf("the server has run it %s times, the reply was lost %d times; want %s and 1", n, peer.robbed.Load(), theft.ran[retry])
				}
				if want := theft.unknown[retry]; errors.Is(err, pooler.ErrUnknownOutcome) != want || (err != nil) != (want || theft.failed) {
					t.Errorf("the caller was told %v; want an unknown outcome: %v", err, want)
				}
				st := s.settled(t)
				if st.Shared < 2 || (st.Unknown == 1) != theft.unknown[retry] {
					t.Errorf("%d shared, %d unknown", st.Shared, st.Unknown)
				}
			})
		}
	}
}

// The same beside others: whoever only reads goes on.
func TestALostSharedReplyHarmsNobodyElse(t *testing.T) {
	testkit.Works(t)
	server := testkit.Start(t, testkit.Redis)
	peer := newRobber(t, server.Addr, "bait")
	s := ourSide(t, driver.Config{}, redis.Options{Addr: peer.listener.Addr().String()})
	s.warm(t, callers)
	stop := make(chan struct{})
	saw, bait := new(split), new(tally)
	wg := s.driveSplit(t, stop, callers, 1, saw)
	for range 20 {
		// A read that is hit again whenever it is tried may fail in the end, on a
		// machine that is slow enough: so everybody gets something in between.
		for seen := saw.reads.reads.Load(); saw.reads.reads.Load() < seen+4*callers; {
			pause(10 * time.Millisecond)
		}
		peer.left.Store(1)
		bait.incr(bait.call(func() error { return s.rdb.Incr(context.Background(), "bait").Err() }))
	}
	close(stop)
	wg.Wait()
	st := s.settled(t)
	t.Logf("%d robbed: %d unknown; beside them %v; %d resent, closes %v", peer.robbed.Load(), bait.unknown.Load(), saw, st.Resent, st.Closes)
	saw.check(t, server.Do(t, "GET", "counter:"+s.name))
	if bait.unknown.Load() != 20 || saw.writes.never.Load() != 0 {
		t.Errorf("%d of 20 robbed INCRs ended unknown; %d others failed", bait.unknown.Load(), saw.writes.never.Load())
	}
}

// A shared connection that ends while nobody uses it costs nobody anything, and
// what is sent next runs once.
func TestAnIdleSharedConnectionEndsUnnoticed(t *testing.T) {
	testkit.Waits(t)
	server := testkit.Start(t, testkit.Redis)
	proxy := testkit.NewProxy(t, server.Addr)
	for name, end := range map[string]func(){"FIN": proxy.CloseAll, "half a FIN": proxy.HalfClose, "RST": proxy.Reset} {
		t.Run(name, func(t *testing.T) {
			s := ourSide(t, driver.Config{Pool: pooler.Config{HealthCheckInterval: -1}}, redis.Options{Addr: proxy.Addr(), MaxRetries: -1})
			server.Do(t, "DEL", "counter:"+s.name)
			saw := new(tally)
			for range 20 {
				s.incrs(16, saw)
				s.settled(t)
				end()
				pause(10 * time.Millisecond) // so that it has arrived
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() { _ = saw.call(func() error { return s.rdb.Set(context.Background(), "k", "v", 0).Err() }) })
				}
				wg.Wait()
			}
			st := s.settled(t)
			t.Logf("%d INCR acknowledged; %d dials, closes %v, %d moved, %d resent%s", saw.incrs.Load(), st.Dials, st.Closes, st.Moved, st.Resent, saw.failures())
			if saw.unknown.Load()+saw.never.Load() != 0 || len(saw.errors) != 0 || st.Unknown != 0 {
				t.Errorf("%d INCR ended unknown, %d failed%s", saw.unknown.Load(), saw.never.Load(), saw.failures())
			}
			saw.checkCounter(t, server.Do(t, "GET", "counter:"+s.name))
			if st.Shared == 0 || st.Closes[pooler.ClosePeer]+st.Closes[pooler.CloseRead]+st.Closes[pooler.CloseUnasked] == 0 {
				t.Errorf("%d shared, closes %v", st.Shared, st.Closes)
			}
		})
	}
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
