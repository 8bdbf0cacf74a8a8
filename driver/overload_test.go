package driver_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// Callers whose deadlines are shorter than the queue at a server that can't keep up: were
// all sent that come, it would run each too late, and all of its work would be in vain. So
// would it be, were those who wait for a connection served in the order of their arrival: when
// their turn comes they have next to no time left.
func TestAServerThatCannotKeepUpStillAnswersInTime(t *testing.T) {
	for name, pool := range map[string]pooler.Config{"shared": {}, "leased": {SharedConns: -1}} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{Pool: pool}, func(t *lab) {
				t.takesItsTime(time.Millisecond)
				rdb := t.client()
				const lasts = 5 * time.Second
				var inTime, unknown atomic.Int64
				var wg sync.WaitGroup
				end := time.Now().Add(lasts)
				for range 256 {
					wg.Go(func() {
						for time.Now().Before(end) {
							ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
							switch err := rdb.Incr(ctx, "n").Err(); {
							case err == nil:
								inTime.Add(1)
							case errors.Is(err, pooler.ErrUnknownOutcome):
								unknown.Add(1)
							}
							cancel()
						}
					})
				}
				wg.Wait()
				in, un, could := inTime.Load(), unknown.Load(), int64(lasts/time.Millisecond)
				t.Logf("%d of the %d that the server could run were in time, and %d unknown", in, could, un)
				if in < could*3/4 || un > could/4 {
					t.Error("want three in four to be in time")
				}
			})
		})
	}
}

// far delivers what is written after so long, as a network does.
type far struct {
	net.Conn
	away time.Duration
	sent chan sentAt
	once sync.Once
}

type sentAt struct {
	b  []byte
	at time.Time
}

func newFar(nc net.Conn, away time.Duration) *far {
	f := &far{Conn: nc, away: away, sent: make(chan sentAt, 10_000)}
	go func() {
		for s := range f.sent {
			time.Sleep(time.Until(s.at.Add(away)))
			_, _ = f.Conn.Write(s.b)
		}
		_ = f.Conn.Close()
	}()
	return f
}

// dialFar dials a server that is that far away.
func dialFar(f *testkit.Fake, away time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := f.Dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return newFar(nc, away), nil
	}
}

func (f *far) Write(b []byte) (int, error) {
	f.sent <- sentAt{bytes.Clone(b), time.Now()}
	return len(b), nil
}

func (f *far) Close() error {
	f.once.Do(func() { close(f.sent) })
	return nil
}

// Callers whose deadlines are shorter than the way to the server always come too late,
// however little is under way: that less is, would cost the patient ones their throughput.
func TestHastyCallersOfAFarServerCostPatientOnesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const away, lasts, patient = 50 * time.Millisecond, 60 * time.Second, 100
		t.Cleanup(func() { time.Sleep(2 * away) }) // what is on its way arrives
		f := testkit.NewFake()
		t.Cleanup(f.Close)
		d := newDriver(t, driver.Config{Dial: dialFar(f, away)})
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr, MaxRetries: -1}))
		t.Cleanup(func() { _ = rdb.Close() })
		var done atomic.Int64
		var wg sync.WaitGroup
		end := time.Now().Add(lasts)
		call := func(within time.Duration, count *atomic.Int64) {
			wg.Go(func() {
				for time.Now().Before(end) {
					ctx, cancel := context.WithTimeout(context.Background(), within)
					if err := rdb.Get(ctx, "k").Err(); errors.Is(err, redis.Nil) {
						count.Add(1)
					}
					cancel()
				}
			})
		}
		for range patient {
			call(time.Second, &done)
		}
		for range 20 {
			call(away/2, new(atomic.Int64))
		}
		wg.Wait()
		if n, could := done.Load(), patient*int64(lasts/away); n < could*3/4 {
			t.Errorf("%d of %d patient calls", n, could)
		} else {
			t.Logf("%d of %d patient calls", n, could)
		}
	})
}

// A caller whose deadline is long enough is served beside however many whose deadlines end
// before the handshake's reply is there: they take its steps, and give them up, all the time.
func TestHastyCallersKeepNoPatientOneFromItsHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const away, hasty = 50 * time.Millisecond, 200
		t.Cleanup(func() { time.Sleep(2 * away) }) // what is on its way arrives
		f := testkit.NewFake()
		t.Cleanup(f.Close)
		d := newDriver(t, driver.Config{Logger: slog.New(slog.DiscardHandler), Dial: dialFar(f, away)})
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr, MaxRetries: -1}))
		t.Cleanup(func() { _ = rdb.Close() })
		get := func(within time.Duration) error {
			ctx, cancel := context.WithTimeout(context.Background(), within)
			defer cancel()
			return rdb.Get(ctx, "k").Err()
		}
		var wg sync.WaitGroup
		var served atomic.Bool
		for i := range hasty {
			wg.Go(func() {
				for time.Sleep(time.Duration(i) * 100 * time.Microsecond); !served.Load(); {
					_ = get(away / 2)
				}
			})
		}
		time.Sleep(away)
		if err := get(time.Second); !errors.Is(err, redis.Nil) {
			t.Error(err)
		}
		served.Store(true)
		wg.Wait()
	})
}
