package driver_test

import (
	"errors"
	"net"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// setClock makes the pool's start look as it would if the system's clock had been set
// by so much since: the clock's reading in it is from before, the monotonic one is the
// same. There is no other way to a time like that.
func setClock(t *testing.T, p *pooler.Pool, by time.Duration) {
	t.Helper()
	start := (*time.Time)(unsafe.Pointer(reflect.ValueOf(p).Elem().FieldByName("start").UnsafeAddr()))
	was := *start
	*(*int64)(unsafe.Pointer(start)) -= int64(by/time.Second) << 30 // its seconds
	if got := was.Round(0).Sub(start.Round(0)); got != by || !was.Equal(*start) {
		t.Fatalf("the clock was set by %v, want %v", got, by)
	}
}

// Virtual machines that go on after a pause, and time services, set the system's clock.
// go-redis's deadlines are times of that clock. Not in a bubble: its times have no
// other.
func TestDeadlinesHoldWhenTheSystemsClockWasSet(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			bothWays(t, func(t *testing.T, shared int) {
				fake := testkit.NewFake()
				defer fake.Close()
				fake.Handle("SET", func(*testkit.FakeConn, []string) []byte {
					time.Sleep(20 * time.Millisecond) // for timers that are wrong to go off
					return testkit.ReplySimple("OK")
				})
				fake.Handle("GET", func(*testkit.FakeConn, []string) []byte { return nil })
				d := newDriver(t, driver.Config{
					Dial: fake.Dial, Pool: pooler.Config{SharedConns: shared},
					NewPooler: func(n pooler.Node, c pooler.Config) (pooler.Pooler, error) {
						p, err := pooler.New(n, c)
						if err == nil {
							setClock(t, p, by)
						}
						return p, err
					},
				})
				client := func(reads time.Duration) *redis.Client {
					c := redis.NewClient(d.Options(&redis.Options{Addr: labAddr, ReadTimeout: reads, MaxRetries: -1}))
					t.Cleanup(func() { _ = c.Close() })
					return c
				}
				if err := client(10*time.Minute).Set(t.Context(), "k", "v", 0).Err(); err != nil {
					t.Errorf("SET: %v", err)
				}
				told := make(chan error, 1)
				hasty := client(20 * time.Millisecond)
				go func() { told <- hasty.Get(t.Context(), "k").Err() }()
				testkit.Await(t, "a caller's time was over", func() bool { return len(told) > 0 })
				err := <-told
				if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
					t.Errorf("GET: %v", err)
				}
			})
		})
	}
}
