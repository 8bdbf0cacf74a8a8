package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// verdict is what a caller was told of a push.
type verdict uint8

const (
	acknowledged verdict = iota
	unknownOutcome
	neverSent
)

// pusher is one caller and its history: the verdict on each push, in order.
type pusher struct {
	id       int
	verdicts []verdict
}

func (p *pusher) push(ctx context.Context, rdb *redis.Client, t *tally) {
	err := t.call(func() error {
		return rdb.LPush(ctx, "history", fmt.Sprintf("%d:%d", p.id, len(p.verdicts))).Err()
	})
	t.incr(err)
	p.told(err)
}

// told notes what the caller was told of its next push.
func (p *pusher) told(err error) {
	switch {
	case err == nil:
		p.verdicts = append(p.verdicts, acknowledged)
	case errors.Is(err, pooler.ErrUnknownOutcome):
		p.verdicts = append(p.verdicts, unknownOutcome)
	default:
		p.verdicts = append(p.verdicts, neverSent)
	}
}

// torment runs faults until stop, or until the test has failed: a reset of every
// connection 20 times a second, and now and then the server kills all clients or
// nothing moves for longer than the callers wait.
func torment(tb testing.TB, stop <-chan struct{}, server *testkit.Server, proxy *testkit.Proxy) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-stop:
			return
		case <-tb.Context().Done():
			return
		case <-tick.C:
		}
		switch {
		case i%10 == 0:
			proxy.Freeze(true)
			pause(150 * time.Millisecond)
			proxy.Freeze(false)
		case i%4 == 0:
			// The server may be busy; the next one comes soon.
			_, _ = server.Call(context.Background(), "CLIENT", "KILL", "TYPE", "normal")
		default:
			proxy.Reset()
		}
	}
}

// Whatever happens to the connections, what a caller was told is true:
// acknowledged pushes are there once, those never sent aren't there, those with
// an unknown outcome at most once, and each caller's pushes are in its order.
func TestHistoriesTellTheTruth(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, w := range []way{
		{kind: testkit.Redis, protocol: 2},
		{kind: testkit.Redis, protocol: 3, shared: -1},
		{kind: testkit.Valkey, protocol: 2, shared: -1},
		{kind: testkit.Valkey, protocol: 3},
		{kind: testkit.Redis, protocol: 3, gathers: true},
	} {
		t.Run(w.String(), func(t *testing.T) {
			testkit.Works(t)
			push := func(s side, p *pusher, i int, saw *tally) {
				if i%3 != 0 {
					p.push(context.Background(), s.rdb, saw)
				} else {
					s.readOnce(p.id, i, saw)
				}
			}
			tellsTheTruth(t, w, pooler.Config{MaxOpenConns: sockets, SharedConns: w.shared}, 24, push,
				func(*testkit.Proxy) { pause(long(2500 * time.Millisecond)) })
		})
	}
}

// tellsTheTruth has so many callers do what call says, under faults, for as long as
// meanwhile takes and faults haven't hit requests in flight; then it compares what the
// server has with what they were told.
func tellsTheTruth(t *testing.T, w way, cfg pooler.Config, callers int, call func(s side, p *pusher, i int, saw *tally), meanwhile func(*testkit.Proxy)) pooler.Stats {
	t.Helper()
	server := testkit.Start(t, w.kind)
	proxy := testkit.NewProxy(t, server.Addr)
	s := ourSide(t, driver.Config{Pool: cfg, Gather: gathering},
		redis.Options{Addr: proxy.Addr(), Protocol: w.protocol, ReadTimeout: 100 * time.Millisecond, WriteTimeout: 100 * time.Millisecond})
	if w.gathers {
		s.gather(t)
	}
	server.Do(t, "SET", "constant", "value")
	stop := make(chan struct{})
	saw := new(tally)
	pushers := make([]*pusher, callers)
	for id := range pushers {
		pushers[id] = &pusher{id: id}
	}
	wg := repeat(t, stop, len(pushers), func(id, i int) { call(s, pushers[id], i, saw) })
	wg.Go(func() { torment(t, stop, server, proxy) })
	meanwhile(proxy)
	testkit.Await(t, "faults have hit requests in flight", func() bool {
		return saw.unknown.Load() > 0 && saw.incrs.Load() > 0 && s.stats(t).Resent > 0
	})
	close(stop)
	wg.Wait()
	st := s.settled(t)
	t.Logf("%d pushes acknowledged, %d unknown, %d never sent; %d reads, %d failed; %d shared, %d leased, %d dials, closes %v, %d moved, %d resent%s",
		saw.incrs.Load(), saw.unknown.Load(), saw.never.Load(), saw.reads.Load(), saw.failedReads.Load(), st.Shared, st.Leased, st.Dials, st.Closes, st.Moved, st.Resent, saw.failures())
	if saw.wrong.Load() != 0 {
		t.Errorf("%d replies belong to other calls", saw.wrong.Load())
	}
	checkHistory(t, pushed(t, server), pushers)
	return st
}

// readOnce reads once for a caller.
func (s side) readOnce(id, i int, saw *tally) {
	saw.reads.Add(1)
	if err := saw.call(func() error { return s.read(context.Background(), fmt.Sprintf("%d-%d", id, i), saw) }); err != nil {
		saw.failedReads.Add(1)
	}
}

// pushed reads the list, in the order of the pushes. Those whose callers have
// left may still be on their way.
func pushed(t *testing.T, server *testkit.Server) []string {
	t.Helper()
	list := strings.Fields(server.Do(t, "LRANGE", "history", "0", "-1"))
	slices.Reverse(list)
	return list
}

// checkHistory compares the list with what the callers were told.
func checkHistory(t *testing.T, list []string, pushers []*pusher) {
	t.Helper()
	seen := make(map[string]int)
	last := make(map[int]int) // of the acknowledged pushes of a caller
	for _, entry := range list {
		seen[entry]++
		who, what, _ := strings.Cut(entry, ":")
		id, err1 := strconv.Atoi(who)
		n, err2 := strconv.Atoi(what)
		if err1 != nil || err2 != nil || id >= len(pushers) || n >= len(pushers[id].verdicts) {
			t.Fatalf("the list has %q, which nobody has pushed", entry)
		}
		// One with an unknown outcome may have come late.
		if pushers[id].verdicts[n] != acknowledged {
			continue
		}
		if before, ok := last[id]; ok && n < before {
			t.Errorf("push %d of caller %d came after its push %d", n, id, before)
		}
		last[id] = n
	}
	var wrong atomic.Int64
	for _, p := range pushers {
		for n, v := range p.verdicts {
			times := seen[fmt.Sprintf("%d:%d", p.id, n)]
			if v == acknowledged && times != 1 || v == unknownOutcome && times > 1 || v == neverSent && times != 0 {
				t.Errorf("push %d:%d is there %d times; its caller was told %s", p.id, n, times, [...]string{"that it was done", "that its outcome is unknown", "that it was never sent"}[v])
				if wrong.Add(1) > 10 {
					return
				}
			}
		}
	}
}
