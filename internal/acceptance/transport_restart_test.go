package acceptance_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
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

// survive has the side's callers work while the server is killed and started
// again; no read fails, and the counter is what they were told.
func (s side) survive(t *testing.T, server *testkit.Server, down time.Duration) *tally {
	t.Helper()
	s.warm(t, sockets)
	stop := make(chan struct{})
	saw := new(tally)
	wg := s.drive(t, stop, callers, saw)
	pause(100 * time.Millisecond)
	server.Kill()
	pause(down)
	saw.arm()
	server.Restart(t)
	testkit.Await(t, "every caller succeeds again", func() bool { return saw.healed.Load() == callers })
	close(stop)
	wg.Wait()
	st := s.settled(t)
	t.Logf("%d reads, %d failed; %d INCR acknowledged, %d unknown, %d failed otherwise; %d dials, %d of them failed%s", saw.reads.Load(), saw.failedReads.Load(),
		saw.incrs.Load(), saw.unknown.Load(), saw.never.Load(), st.Dials, st.DialErrors, saw.failures())
	if saw.failedReads.Load() != 0 || saw.never.Load() != 0 || saw.wrong.Load() != 0 {
		t.Errorf("%d reads and %d INCR failed that were never sent, %d got another's reply", saw.failedReads.Load(), saw.never.Load(), saw.wrong.Load())
	}
	saw.checkCounter(t, server.Do(t, "GET", "counter:"+s.name))
	return saw
}

var durable = testkit.WithArgs("--appendonly", "yes", "--appendfsync", "always")

// TLS connections are made again with the tickets of earlier ones, and with the
// name that the node has.
func TestTLSSurvivesARestart(t *testing.T) {
	t.Parallel() // what runs are its subtests
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		// An address is checked against the certificate, and not sent as a name.
		for host, name := range map[string]string{"127.0.0.1": "", "localhost": "localhost"} {
			t.Run(host, func(t *testing.T) {
				testkit.Waits(t)
				server := testkit.Start(t, testkit.Redis, testkit.WithTLS(), durable)
				cfg := server.TLSConfig()
				cfg.ServerName = ""
				var full, resumed, misnamed atomic.Int64
				cfg.VerifyConnection = func(cs tls.ConnectionState) error {
					if cs.DidResume {
						resumed.Add(1)
					} else {
						full.Add(1)
					}
					if cs.ServerName != name {
						misnamed.Add(1)
					}
					return nil
				}
				addr := net.JoinHostPort(host, fmt.Sprint(server.Port))
				s := ourSide(t, driver.Config{Pool: pooler.Config{SharedConns: shared, MaxOpenConns: sockets}}, redis.Options{Addr: addr, TLSConfig: cfg})
				s.survive(t, server, 300*time.Millisecond)
				t.Logf("%d full handshakes, %d resumed", full.Load(), resumed.Load())
				if resumed.Load() == 0 {
					t.Error("no session was resumed")
				}
				if misnamed.Load() != 0 {
					t.Errorf("%d connections had another ServerName than %q", misnamed.Load(), name)
				}
			})
		}
	})
}

// A unix socket is as good as TCP.
func TestAUnixSocketSurvivesARestart(t *testing.T) {
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		server := testkit.Start(t, testkit.Valkey, testkit.WithUnixSocket(), durable)
		s := ourSide(t, driver.Config{Pool: pooler.Config{SharedConns: shared, MaxOpenConns: sockets}}, redis.Options{Network: "unix", Addr: server.Addr})
		s.survive(t, server, 300*time.Millisecond)
	})
}

// A client on a replica reads there, and learns of a write what the replica
// says; a restart of the replica fails no read.
func TestAReplicaSurvivesARestart(t *testing.T) {
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		master := testkit.Start(t, testkit.Redis)
		master.Do(t, "SET", "constant", "value")
		replica := testkit.Start(t, testkit.Redis, testkit.WithReplicaOf(master))
		testkit.Await(t, "the replica has the data", func() bool { return replica.Do(t, "GET", "constant") == "value" })
		s := ourSide(t, driver.Config{Pool: pooler.Config{SharedConns: shared, MaxOpenConns: sockets}}, redis.Options{Addr: replica.Addr})
		stop := make(chan struct{})
		failed := make(chan error, 1)
		for range 8 {
			go func() {
				for {
					select {
					case <-stop:
						failed <- nil
						return
					default:
					}
					// Before it has synchronised, the replica has no data.
					got, err := s.rdb.Get(context.Background(), "constant").Result()
					if err != nil && err != redis.Nil || err == nil && got != "value" { //nolint:errorlint // go-redis returns it bare
						failed <- fmt.Errorf("read on the replica: %q, %v", got, err)
						return
					}
				}
			}()
		}
		err := s.rdb.Set(context.Background(), "constant", "other", 0).Err()
		if err == nil || !strings.HasPrefix(err.Error(), "READONLY") {
			t.Errorf("write on the replica: %v, want READONLY", err)
		}
		pause(100 * time.Millisecond)
		replica.Kill()
		pause(200 * time.Millisecond)
		replica.Restart(t)
		testkit.Await(t, "the node is up", func() bool { return s.stats(t).State == pooler.StateUp })
		pause(100 * time.Millisecond)
		close(stop)
		for range 8 {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
		s.settled(t)
	})
}

// slowToLoad starts a server that says LOADING after a restart until [loadOn].
func slowToLoad(t *testing.T) *testkit.Server {
	server := testkit.Start(t, testkit.Redis, testkit.WithArgs("--appendonly", "yes", "--enable-debug-command", "yes",
		"--loading-process-events-interval-bytes", "8192", "--aof-use-rdb-preamble", "yes", "--key-load-delay", "1000"))
	server.Do(t, "SET", "constant", "value")
	server.Do(t, "DEBUG", "POPULATE", "50000", "filler", "100")
	server.Do(t, "BGREWRITEAOF")
	testkit.Await(t, "the data is on disk", func() bool {
		info := server.Do(t, "INFO", "persistence")
		return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
	})
	return server
}

// awaitLoading returns when the server says that it loads its data.
func awaitLoading(t *testing.T, server *testkit.Server) {
	t.Helper()
	testkit.Await(t, "the server says LOADING", func() bool {
		reply, _ := server.Call(t.Context(), "PING")
		return strings.HasPrefix(reply, "-LOADING")
	})
}

// loadOn has a server of [slowToLoad] load the rest of its data as fast as it can.
func loadOn(t *testing.T, server *testkit.Server) {
	t.Helper()
	if reply := server.Do(t, "CONFIG", "SET", "key-load-delay", "0"); reply != "OK" {
		t.Error(reply)
	}
}

// Nor was it away for a client that has asked nothing meanwhile; its connections are closed.
func TestCallersWaitForAServerThatHasRestartedUnnoticed(t *testing.T) {
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		server := slowToLoad(t)
		s := ourSide(t, driver.Config{Pool: pooler.Config{SharedConns: shared, MaxOpenConns: sockets}}, redis.Options{Addr: server.Addr})
		s.warm(t, sockets)
		s.settled(t)
		server.Kill()
		server.StartAgain(t)
		awaitLoading(t, server)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				var err error
				if i%2 == 0 {
					err = s.rdb.Get(t.Context(), "constant").Err()
				} else {
					err = s.rdb.Incr(t.Context(), "counter").Err()
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		pause(300 * time.Millisecond)
		awaitLoading(t, server)
		loadOn(t, server)
		wg.Wait()
		if n := server.Do(t, "GET", "counter"); n != fmt.Sprint(callers/2) {
			t.Errorf("%s of %d INCR have run", n, callers/2)
		}
		st := s.settled(t)
		t.Logf("%d dials, %d resent, closes %v", st.Dials, st.Resent, st.Closes)
	})
}

// While the server loads its data it isn't back yet: callers go on waiting.
func TestCallersWaitWhileTheServerLoads(t *testing.T) {
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		server := slowToLoad(t)
		s := ourSide(t, driver.Config{Pool: pooler.Config{SharedConns: shared, MaxOpenConns: sockets}}, redis.Options{Addr: server.Addr})
		s.warm(t, sockets)
		stop := make(chan struct{})
		saw := new(tally)
		wg := s.drive(t, stop, callers, saw)
		pause(100 * time.Millisecond)
		server.Kill()
		saw.arm()
		// If it came back before a dial has failed, there was no outage to wait for:
		// callers would be told LOADING, and go-redis would try again.
		testkit.Await(t, "the pool has noticed", func() bool { return s.stats(t).State != pooler.StateUp })
		server.StartAgain(t)
		awaitLoading(t, server)
		pause(500 * time.Millisecond)
		loadOn(t, server)
		at := answersAt(t, server)
		testkit.Await(t, "every caller succeeds again", func() bool { return saw.healed.Load() == callers })
		close(stop)
		wg.Wait()
		st := s.settled(t)
		t.Logf("%d reads, %d failed; %d INCR acknowledged, %d unknown, %d failed otherwise; %d dials; slowest call %v; first success %v after the server served%s",
			saw.reads.Load(), saw.failedReads.Load(), saw.incrs.Load(), saw.unknown.Load(), saw.never.Load(), st.Dials,
			time.Duration(saw.slowest.Load()).Round(time.Millisecond), time.Duration(saw.first.Load()-at.UnixNano()).Round(100*time.Microsecond), saw.failures())
		if saw.failedReads.Load() != 0 || saw.never.Load() != 0 {
			t.Errorf("%d reads and %d INCR failed that were never sent; want none", saw.failedReads.Load(), saw.never.Load())
		}
		if n := server.Do(t, "DBSIZE"); n != "50002" {
			t.Errorf("DBSIZE is %s, want 50002", n)
		}
	})
}
