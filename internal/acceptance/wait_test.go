package acceptance_test

import (
	"bufio"
	"context"
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
	"github.com/everpool/everpool/pooler"
)

// monitor notes which connection each command came on that has the mark among
// its arguments: mark to client address to command names.
type monitor struct {
	nc  net.Conn
	end chan struct{}

	mu   sync.Mutex
	came map[string]string // "command argument" to address
}

// watchServer starts a MONITOR that notes SETs by key and WAITs by timeout.
func watchServer(t *testing.T, server *testkit.Server) *monitor {
	t.Helper()
	nc, err := net.Dial("tcp", server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	m := &monitor{nc: nc, end: make(chan struct{}), came: make(map[string]string)}
	r := bufio.NewReader(nc)
	if _, err := nc.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); err != nil || line != "+OK\r\n" {
		t.Fatalf("MONITOR: %q, %v", line, err)
	}
	go func() {
		defer close(m.end)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			m.note(line)
		}
	}()
	t.Cleanup(func() { _ = nc.Close(); <-m.end })
	return m
}

// note takes a line such as: +1700000000.1 [0 127.0.0.1:5] "wait" "1" "51".
func (m *monitor) note(line string) {
	_, rest, _ := strings.Cut(line, "[")
	from, command, _ := strings.Cut(rest, "] ")
	f := strings.Fields(strings.ReplaceAll(command, `"`, ""))
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(f) == 3 && strings.EqualFold(f[0], "SET"):
		m.came["SET "+f[1]] = from
	case len(f) == 3 && strings.EqualFold(f[0], "WAIT"):
		m.came["WAIT "+f[2]] = from
	}
}

func (m *monitor) from(what string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.came[what]
}

// replicates reports whether the server's writes reach its replica. Until the
// replica has reported for the first time they don't.
func replicates(t *testing.T, server *testkit.Server) bool {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer rdb.Close()
	c := rdb.Conn()
	defer c.Close()
	if err := c.Set(context.Background(), "first", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	n, err := c.Wait(context.Background(), 1, 100*time.Millisecond).Result()
	return err == nil && n == 1
}

// WAIT asks about the writes of its connection, so it follows the handle's SET
// to the shared connection that carried it; the others go on elsewhere.
func TestWaitFollowsTheWriteToItsSharedConnection(t *testing.T) {
	testkit.Waits(t)
	server := testkit.Start(t, testkit.Redis)
	testkit.Start(t, testkit.Redis, testkit.WithReplicaOf(server))
	testkit.Await(t, "the replica is in sync", func() bool { return replicates(t, server) })
	m := watchServer(t, server)
	var silences atomic.Int64
	s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 4, WaitTimeout: -1, OnEvent: countSilences(&silences)}},
		redis.Options{Addr: server.Addr, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second})
	s.warm(t, 16)
	early := s.stats(t).Dials
	stop := make(chan struct{})
	saw := new(split)
	wg := s.driveSplit(t, stop, 16, 1, saw)
	var gone, waits atomic.Int64
	var slowest atomic.Int64
	var waiters sync.WaitGroup
	for id := range 6 {
		waiters.Go(func() {
			c := s.rdb.Conn()
			defer c.Close()
			for i := range 10 {
				// One replica of one answers soon; two of one, never. No two WAITs have
				// the same timeout.
				replicas, timeout := 1, 30_000+id*10+i
				if i == 5 {
					replicas, timeout = 2, 200+id
				}
				key := fmt.Sprintf("%d", timeout)
				if err := c.Set(context.Background(), key, "v", 0).Err(); err != nil {
					t.Errorf("SET: %v", err)
					return
				}
				began := time.Now()
				n, err := c.Wait(context.Background(), replicas, time.Duration(timeout)*time.Millisecond).Result()
				raise(&slowest, int64(time.Since(began)))
				if err != nil {
					gone.Add(1)
					t.Logf("WAIT: %v", err)
					continue
				}
				waits.Add(1)
				if n != 1 && (replicas == 1 || n != 0) { // it may be late for the short timeout
					t.Errorf("WAIT %d %d: %d replicas", replicas, timeout, n)
				}
				// The server says it before it is heard of here.
				if err := testkit.AwaitErr("MONITOR shows the WAIT", func() bool { return m.from("WAIT "+key) != "" }); err != nil {
					t.Error(err)
					return
				}
				if set, wait := m.from("SET "+key), m.from("WAIT "+key); set != wait {
					t.Errorf("SET %s came from %s, its WAIT from %s", key, set, wait)
				}
			}
		})
	}
	before := saw.reads.reads.Load()
	waiters.Wait()
	during := saw.reads.reads.Load() - before
	close(stop)
	wg.Wait()
	st := s.settled(t)
	t.Logf("%d WAITs, %d refused, slowest %v; beside them %d reads; %v; %d dials, closes %v, %d shared, %d leased", waits.Load(), gone.Load(),
		time.Duration(slowest.Load()).Round(time.Millisecond), during, saw, st.Dials, st.Closes, st.Shared, st.Leased)
	if waits.Load() == 0 || gone.Load() != 0 || during == 0 {
		t.Errorf("%d WAITs, %d refused, %d reads beside them; want 60, 0, some", waits.Load(), gone.Load(), during)
	}
	// A slow machine may seem silent, upon which a connection is opened to ask, in a full
	// pool in the place of one; and have dialed twice for the handshake: such a connection
	// isn't in the session of the others, and makes room for one that is.
	silent, room := st.Closes[pooler.CloseSilence], st.Closes[pooler.CloseRoom]
	if st.Dials > 4+silent+room || room > early+silences.Load() {
		t.Errorf("%d dials, %d times silent, %d connections closed for it, %d for room, of %d that were dialed first; want 4 more at most", st.Dials, silences.Load(), silent, room, early)
	}
	saw.check(t, server.Do(t, "GET", "counter:"+s.name))
}
