package acceptance_test

import (
	"context"
	"fmt"
	"strconv"
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

// refusals is how many authentications the server has refused.
func refusals(tb testing.TB, s *testkit.Server) int64 {
	tb.Helper()
	total := int64(0)
	for line := range strings.Lines(s.Do(tb, "INFO", "errorstats")) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "errorstat_WRONGPASS:count=")
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		total += n
	}
	return total
}

// passwordRotation is a password that changes.
type passwordRotation struct {
	user   string // "" for requirepass
	server *testkit.Server
	now    atomic.Pointer[string]
}

func (r *passwordRotation) credentials() (username, password string) { return r.user, *r.now.Load() }

// rotate changes the password as one does: the new one is good before the
// provider knows it, and the old one until nobody has it in hand any more. Then
// all connections end.
func (r *passwordRotation) rotate(t *testing.T, password string) {
	old := *r.now.Load()
	user := r.user
	if user == "" {
		user = "default"
	}
	r.server.Do(t, "ACL", "SETUSER", user, ">"+password)
	r.now.Store(&password)
	pause(long(200 * time.Millisecond))
	if r.user == "" {
		r.server.Do(t, "CONFIG", "SET", "requirepass", password)
	} else {
		r.server.Do(t, "ACL", "SETUSER", user, "<"+old)
	}
	r.server.Do(t, "CLIENT", "KILL", "TYPE", "normal")
}

// newPasswordRotation starts a server whose password is "first".
func newPasswordRotation(t *testing.T, user string) *passwordRotation {
	r := &passwordRotation{user: user}
	first := "first"
	r.now.Store(&first)
	if user == "" {
		r.server = testkit.Start(t, testkit.Redis, testkit.WithPassword(first))
	} else {
		r.server = testkit.Start(t, testkit.Redis, testkit.WithPassword("root"), testkit.WithUser(user, first, "~* &* +@all"))
	}
	return r
}

// With a provider that knows the new password, a rotation fails no call.
func TestARotatedPasswordFailsNoCall(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, w := range []way{
		{protocol: 2},
		{protocol: 3},
		{protocol: 3, shared: -1},
		{user: "app", protocol: 2},
		{user: "app", protocol: 3},
		{user: "app", protocol: 2, shared: -1},
	} {
		t.Run(w.String(), func(t *testing.T) {
			testkit.Works(t)
			r := newPasswordRotation(t, w.user)
			r.server.Do(t, "SET", "constant", "value")
			s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: sockets, SharedConns: w.shared}},
				redis.Options{Addr: r.server.Addr, Protocol: w.protocol, CredentialsProvider: r.credentials})
			s.warm(t, sockets)
			stop := make(chan struct{})
			saw := new(tally)
			wg := repeat(t, stop, callers, func(id, i int) {
				saw.reads.Add(1)
				if err := saw.call(func() error { return s.read(context.Background(), fmt.Sprintf("%d-%d", id, i), saw) }); err != nil {
					saw.failedReads.Add(1)
				}
			})
			const rotations = 5
			for i := range rotations {
				pause(long(150 * time.Millisecond))
				r.rotate(t, fmt.Sprintf("password-%d", i))
			}
			pause(long(150 * time.Millisecond))
			close(stop)
			wg.Wait()
			st := s.settled(t)
			refused := refusals(t, r.server)
			t.Logf("%d reads, %d failed; %d dials, %d authentications refused in %d rotations, closes %v%s", saw.reads.Load(), saw.failedReads.Load(), st.Dials, refused, rotations, st.Closes, saw.failures())
			if saw.failedReads.Load() != 0 || saw.wrong.Load() != 0 {
				t.Errorf("%d calls failed, %d got another's reply", saw.failedReads.Load(), saw.wrong.Load())
			}
			if limit := int64(rotations * sockets); refused > limit {
				t.Errorf("%d authentications were refused, want at most %d", refused, limit)
			}
		})
	}
}

// Without a provider every caller is told that the password is wrong, and the
// server isn't stormed.
func TestAWrongPasswordIsToldWithoutAStorm(t *testing.T) {
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		r := newPasswordRotation(t, "")
		s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: sockets, SharedConns: shared}}, redis.Options{Addr: r.server.Addr, Password: "first"})
		stock := stockSide(t, redis.Options{Addr: r.server.Addr, Password: "first", PoolSize: sockets})
		s.warm(t, sockets)
		stock.warm(t, sockets)
		r.rotate(t, "second")

		const each = 5
		check := func(s side) (calls, dials, refused int64) {
			t.Helper()
			dials, refused = s.dialCounter.dials.Load(), refusals(t, r.server)
			var wg sync.WaitGroup
			var unclear atomic.Pointer[error]
			for range callers {
				wg.Go(func() {
					for range each {
						err := s.rdb.Get(context.Background(), "constant").Err()
						if err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
							unclear.Store(&err)
						}
					}
				})
			}
			wg.Wait()
			if err := unclear.Load(); err != nil {
				t.Logf("%-9s a call ended with: %v; want WRONGPASS", s.name, *err)
				if s.d != nil {
					t.Fail()
				}
			}
			dials, refused = s.dialCounter.dials.Load()-dials, refusals(t, r.server)-refused
			t.Logf("%-9s %d calls: %d dials, %d authentications refused", s.name, callers*each, dials, refused)
			return callers * each, dials, refused
		}
		calls, dials, refused := check(s)
		if dials > 2*sockets {
			t.Errorf("%d dials for %d calls over at most %d connections", dials, calls, sockets)
		}
		if refused > 2*calls+sockets { // go-redis tries HELLO, then AUTH
			t.Errorf("%d authentications were refused in %d calls", refused, calls)
		}
		check(stock)

		r.rotate(t, "first")
		if err := s.rdb.Get(context.Background(), "constant").Err(); err != nil {
			t.Errorf("with the old password back: %v", err)
		}
		s.settled(t)
	})
}
