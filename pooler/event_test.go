package pooler_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/pooler"
)

// line prints an event without what chance decides.
func line(ev pooler.Event) string {
	parts := []string{ev.Kind.String()}
	if ev.Conn != 0 {
		parts = append(parts, fmt.Sprint(ev.Conn))
	}
	if ev.Kind == pooler.EventState {
		parts = append(parts, fmt.Sprintf("%v->%v", ev.Previous, ev.State))
	}
	for _, s := range []string{string(ev.Reason), ev.Pin} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if ev.Duration != 0 {
		parts = append(parts, ev.Duration.Round(time.Second).String())
	}
	if ev.Err != nil {
		parts = append(parts, ev.Err.Error())
	}
	return strings.Join(parts, " ")
}

func TestEventsTellALifeInOrder(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		pt.dialer.take(time.Millisecond)
		pt.dialer.hold(true)
		began := time.Now()
		next := func(err error) {
			pt.sleep(time.Second)
			pt.dialer.wantDial().finish(err)
		}
		w := pt.wait(pt.plain)
		next(nil)
		c := w.wantConn()
		pt.pool.Pin(c, "subscribed")
		w = pt.wait(pt.plain)
		pt.put(c)
		next(syscall.ECONNREFUSED)
		next(syscall.ETIMEDOUT)
		next(nil)
		c = w.wantConn()
		pt.put(c)
		_ = pt.pool.Close()
		pt.settle()
		var got []string
		for _, ev := range pt.eventsOf(pooler.EventState, pooler.EventDial, pooler.EventClose, pooler.EventPin) {
			got = append(got, line(ev))
			if ev.Node != addr || ev.Time.Before(began) || ev.Time.After(time.Now()) {
				t.Errorf("node %q, time %s", ev.Node, ev.Time)
			}
		}
		want := []string{
			"dial 1s",
			"pin 1 subscribed",
			"close 1 state",
			"dial 1s connection refused",
			"state up->suspect connection refused",
			"dial 1s connection timed out",
			"state suspect->down connection timed out",
			"dial 1s",
			"state down->up 3s",
			"close 2 pool_closed",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestOnEventMayCallThePool(t *testing.T) {
	var pt *tester
	var calls atomic.Int32
	cfg := pooler.Config{MaxOpenConns: 2, MinIdleConns: 1, HealthCheckInterval: time.Second, ConnMaxIdleTime: time.Second}
	cfg.OnEvent = func(ev pooler.Event) {
		if calls.Add(1) > 50 {
			return // each call makes events of its own
		}
		pt.pool.Stats()
		pt.pool.SetMaxIdleConns(2)
		if c, err := pt.tryGet(pooler.Request{Session: pt.plain, Deadline: time.Now().Add(time.Second)}); err == nil {
			pt.pool.Pin(c, ev.Kind.String())
			pt.put(c)
		}
		pt.pool.Drain()
	}
	bubble(t, cfg, func(tester *tester) {
		pt = tester
		for range 5 {
			pt.fill(session(1), 1)
			pt.sleep(time.Second)
		}
		pt.fake.DownRefused()
		pt.begin(pooler.Request{Session: pt.plain}).await()
		pt.fake.Up()
		pt.sleep(10 * time.Second)
		if n := calls.Load(); n < 20 {
			t.Errorf("only %d events", n)
		}
	})
}
