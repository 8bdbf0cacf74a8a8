package acceptance_test

import (
	"bufio"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// outage is what one side saw of a server that was killed and came back.
type outage struct {
	*tally
	dials   int64         // from the kill until every caller had succeeded again
	refused int64         // of dials: those that found nobody
	healing time.Duration // from the server's first answer to the first success
	length  time.Duration // from the kill to the server's first answer
}

// restart kills the server under the side's load, and starts it again.
func (s side) restart(t *testing.T, server *testkit.Server) outage {
	s.warm(t, callers)
	stop := make(chan struct{})
	o := outage{tally: new(tally)}
	wg := s.drive(t, stop, callers, o.tally)
	pause(200 * time.Millisecond)

	before, refused := s.dialCounter.dials.Load(), s.dialCounter.failed.Load()
	killed := time.Now()
	server.Kill()
	pause(1500 * time.Millisecond)
	o.arm()
	server.StartAgain(t)
	at := answersAt(t, server)
	testkit.Await(t, "every caller succeeds again", func() bool { return o.healed.Load() == callers })
	o.dials, o.refused = s.dialCounter.dials.Load()-before, s.dialCounter.failed.Load()-refused
	pause(200 * time.Millisecond)
	close(stop)
	wg.Wait()
	o.healing, o.length = time.Duration(o.first.Load()-at.UnixNano()), at.Sub(killed)
	return o
}

func (o outage) log(t *testing.T, name string) {
	t.Logf("%-9s %7d reads, %4d failed; %6d INCR acknowledged, %3d unknown, %3d failed otherwise; %4d dials, %d of them refused; slowest call %v; first success %v after the server answered%s",
		name, o.reads.Load(), o.failedReads.Load(), o.incrs.Load(), o.unknown.Load(), o.never.Load(), o.dials, o.refused,
		time.Duration(o.slowest.Load()).Round(time.Millisecond), o.healing.Round(100*time.Microsecond), o.failures())
}

// A server that is killed and comes back after a second and a half costs
// latency: no read fails, nothing runs twice, and nobody dials in crowds.
func TestARestartCostsLatencyAndNoErrors(t *testing.T) {
	testkit.Waits(t)
	options := redis.Options{ReadTimeout: time.Second, WriteTimeout: time.Second}

	drivertest.BothWays(t, func(t *testing.T, shared int) {
		server := testkit.Start(t, testkit.Redis, durable)
		o := options
		o.Addr = server.Addr
		s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: sockets, SharedConns: shared}}, o)
		saw := s.restart(t, server)
		saw.log(t, s.name)
		if n := saw.failedReads.Load(); n != 0 {
			t.Errorf("%d reads failed", n)
		}
		// A machine that takes long to start the server makes for more probes.
		limit := int64(64)
		if late := saw.length.Seconds() / 1.6; late > 1 {
			limit += 1 + int64(30*math.Log(late))
		}
		if saw.dials > limit {
			t.Errorf("%d dials in an outage of %v until all were healed, want at most %d", saw.dials, saw.length, limit)
		}
		if n := saw.wrong.Load(); n != 0 {
			t.Errorf("%d replies belong to other calls", n)
		}
		saw.checkCounter(t, server.Do(t, "GET", "counter:"+s.name))
		if st := s.settled(t); st.Heals == 0 || st.State != pooler.StateUp {
			t.Errorf("the node healed %d times and is %v", st.Heals, st.State)
		}
	})

	t.Run("stock", func(t *testing.T) {
		server := testkit.Start(t, testkit.Redis, durable)
		o := options
		o.Addr, o.PoolSize = server.Addr, sockets
		s := stockSide(t, o)
		saw := s.restart(t, server)
		saw.log(t, s.name)
		t.Logf("stock     counter %s", server.Do(t, "GET", "counter:"+s.name))
	})
}

// answersAt polls until the server answers PING with PONG, with nothing but a
// socket, and returns when that was.
func answersAt(tb testing.TB, s *testkit.Server) (at time.Time) {
	tb.Helper()
	ping := func() string {
		nc, err := net.DialTimeout(s.Network, s.Addr, time.Second)
		if err != nil {
			return ""
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := nc.Write([]byte("PING\r\n")); err != nil {
			return ""
		}
		line, _ := bufio.NewReader(nc).ReadString('\n')
		return line
	}
	testkit.Await(tb, "the server answers", func() bool {
		reply := ping()
		at = time.Now()
		return strings.HasPrefix(reply, "+PONG")
	})
	return at
}
