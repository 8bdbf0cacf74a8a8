package acceptance_test

import (
	"context"
	"fmt"
	"strconv"
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

// member is one client of those that are on one node with different sessions.
type member struct {
	name     string
	db       int
	user     string
	protocol int
	rdb      *redis.Client
}

// check asks what only this session can be told.
func (m *member) check(t *testing.T, id, i int) bool {
	ctx := context.Background()
	key, value := fmt.Sprintf("%d.%d", id, i%16), fmt.Sprintf("%s.%d.%d", m.name, id, i)
	if err := m.rdb.Set(ctx, key+m.user+strconv.Itoa(m.protocol), value, 0).Err(); err != nil {
		t.Errorf("%s: SET: %v", m.name, err)
		return false
	}
	if got, err := m.rdb.Get(ctx, key+m.user+strconv.Itoa(m.protocol)).Result(); err != nil || got != value {
		t.Errorf("%s: GET gave %q (%v), want %q", m.name, got, err, value)
		return false
	}
	if got, err := m.rdb.Get(ctx, "db").Result(); err != nil || got != strconv.Itoa(m.db) {
		t.Errorf("%s: the database is %q (%v)", m.name, got, err)
		return false
	}
	if got, err := m.rdb.Do(ctx, "ACL", "WHOAMI").Text(); err != nil || got != m.user {
		t.Errorf("%s: the user is %q (%v)", m.name, got, err)
		return false
	}
	got, err := m.rdb.Do(ctx, "HGETALL", "hash").Result()
	if _, isMap := got.(map[any]any); err != nil || isMap != (m.protocol == 3) {
		t.Errorf("%s: HGETALL gave %T (%v)", m.name, got, err)
		return false
	}
	return true
}

// Clients with different databases, users or protocols on one node never share a
// connection, however few there are.
func TestSharedConnectionsAreOfOneSession(t *testing.T) {
	testkit.Works(t)
	for _, open := range []int{64, 4} {
		t.Run(fmt.Sprintf("%d sockets", open), func(t *testing.T) {
			server := testkit.Start(t, testkit.Redis, testkit.WithUser("alice", "secret", "~* +@all"))
			d := drivertest.New(t, driver.Config{Pool: pooler.Config{MaxOpenConns: open}})
			var members []*member
			for db := range 3 {
				server.Do(t, "EVAL", "redis.call('SELECT', ARGV[1]) redis.call('SET', 'db', ARGV[1]) return redis.call('HSET', 'hash', 'a', '1')", "0", strconv.Itoa(db))
				for _, user := range []string{"default", "alice"} {
					for _, protocol := range []int{2, 3} {
						o := &redis.Options{Addr: server.Addr, DB: db, Protocol: protocol, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
						if user == "alice" {
							o.Username, o.Password = user, "secret"
						}
						m := &member{name: fmt.Sprintf("%s-%d-RESP%d", user, db, protocol), db: db, user: user, protocol: protocol, rdb: redis.NewClient(d.Options(o))}
						t.Cleanup(func() { _ = m.rdb.Close() })
						members = append(members, m)
					}
				}
			}
			stop := make(chan struct{})
			var calls atomic.Int64
			var wg sync.WaitGroup
			for id := range 108 {
				wg.Go(func() {
					m := members[id%len(members)]
					for i := 0; m.check(t, id, i); i++ {
						calls.Add(5)
						select {
						case <-stop:
							return
						default:
						}
					}
				})
			}
			pause(long(700 * time.Millisecond))
			if err := testkit.AwaitErr("many calls are answered", func() bool { return calls.Load() > 5*108 || t.Failed() }); err != nil {
				t.Error(err)
			}
			close(stop)
			wg.Wait()
			st := d.Nodes()[0].Stats
			t.Logf("%d calls in %d sessions; %d shared, %d leased, %d lanes, %d dials, closes %v, oldest waiter %v", calls.Load(), len(members), st.Shared, st.Leased, st.Lanes, st.Dials, st.Closes, st.OldestWaiter)
			if st.Shared == 0 {
				t.Error("nothing was shared")
			}
		})
	}
}
