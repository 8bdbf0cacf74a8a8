package driver_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A service that comes from the stock client has sizes that were chosen for sockets.
func TestASmallPoolSizeBoundsSocketsAndNoCallers(t *testing.T) {
	const callers = 64
	for name, set := range map[string]func(*redis.Options){
		"unset":            func(*redis.Options) {},
		"PoolSize":         func(o *redis.Options) { o.PoolSize = 10 },
		"the least":        func(o *redis.Options) { o.PoolSize, o.PipelinePoolSize = 1, -1 },
		"MaxActiveConns":   func(o *redis.Options) { o.MaxActiveConns = 10 },
		"MaxConcurrent...": func(o *redis.Options) { o.PoolSize, o.MaxConcurrentDials = 10, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				rdb := t.client(set)
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				t.f.Freeze(true)
				results := make(chan error, callers)
				for i := range callers {
					go func() {
						if i%2 == 0 {
							results <- rdb.Set(t.Context(), fmt.Sprint("k", i), "v", 0).Err()
							return
						}
						_, err := rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error { p.Incr(t.Context(), "n"); return nil })
						results <- err
					}()
				}
				synctest.Wait()
				s := t.stats()
				if s.InFlight != callers || s.Waiting != 0 {
					t.Errorf("%d requests under way and %d that wait, want all %d under way", s.InFlight, s.Waiting, callers)
				}
				if s.OpenConnections > 4 {
					t.Errorf("%d sockets for those who share", s.OpenConnections)
				}
				t.f.Freeze(false)
				for range callers {
					if err := <-results; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// What is said of sockets bounds them as it did: never more than go-redis would open.
func TestTheBoundOnSocketsIsGoRediss(t *testing.T) {
	for _, c := range []struct {
		o    redis.Options
		own  int // Config.Pool.MaxOpenConns
		want int
	}{
		{o: redis.Options{PoolSize: 5}, want: 15},
		{o: redis.Options{PoolSize: 5, PipelinePoolSize: 3}, want: 8},
		{o: redis.Options{PoolSize: 5, PipelinePoolSize: -1}, want: 5},
		{o: redis.Options{MaxActiveConns: 5}, want: 15},
		{o: redis.Options{PoolSize: 5, MaxActiveConns: 3}, want: 13},
		{o: redis.Options{PoolSize: 5, MaxActiveConns: 9}, want: 15},
		{o: redis.Options{PoolSize: 5}, own: 7, want: 7},
		{o: redis.Options{PoolSize: 5}, own: -1, want: -1},
	} {
		inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: c.own}}, func(t *lab) {
			rdb := t.client(func(o *redis.Options) { *o = c.o; o.Addr = labAddr })
			if err := rdb.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if n := t.stats().MaxOpenConnections; n != c.want {
				t.Errorf("%d sockets at most, want %d, with PoolSize %d, MaxActiveConns %d, PipelinePoolSize %d, MaxOpenConns %d",
					n, c.want, c.o.PoolSize, c.o.MaxActiveConns, c.o.PipelinePoolSize, c.own)
			}
		})
	}
}

// Age and idleness are of sockets: what go-redis holds has none.
func TestHandlesDontExpireAndSocketsDo(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{HealthCheckInterval: time.Second}}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) {
			o.ConnMaxLifetime, o.ConnMaxIdleTime, o.MaxIdleConns = time.Minute, time.Minute, 1
		})
		for range 100 {
			if err := rdb.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		if s := rdb.PoolStats(); s.Misses != 1 || s.StaleConns != 0 {
			t.Errorf("go-redis has dialed %d handles and thrown %d away", s.Misses, s.StaleConns)
		}
		if n := t.f.Accepted(); n < 10 {
			t.Errorf("%d sockets in 1000 s, each at most a minute old", n)
		}
	})
}

func TestABurstOfCallersLeavesFewHandlesBehind(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(*redis.Options) {})
		all := make(chan struct{})
		t.f.Handle("GET", func(*testkit.FakeConn, []string) []byte {
			<-all
			return []byte("$-1\r\n")
		})
		var wg sync.WaitGroup
		for range 2000 {
			wg.Go(func() {
				if err := rdb.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := rdb.PoolStats().TotalConns; n != 2000 {
			t.Errorf("%d handles for 2000 callers", n)
		}
		close(all)
		wg.Wait()
		for range 2000 { // go-redis counts those loosely that come back together
			_ = rdb.Get(t.Context(), "k").Err()
		}
		if n := rdb.PoolStats().TotalConns; n > 1280 {
			t.Errorf("%d handles are kept", n)
		}
		if n := t.f.Accepted(); n > 10 {
			t.Errorf("%d sockets for them", n)
		}
	})
}

// A machine with few processors must not refuse what stock takes.
func TestMinIdleConnsOverTheDefaultBoundIsTheBound(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.MinIdleConns = 100_000 })
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Error(err)
		}
	})
}

// Handles that each keep a socket must be fewer than those, or they wait for each
// other for ever.
func TestHandlesThatKeepASocketAreFewerThanThose(t *testing.T) {
	for name, c := range map[string]struct {
		poolSize, sockets int
		want              int
	}{
		"unset":               {0, 20, 10},
		"unset, one socket":   {0, 1, 1},
		"as many":             {20, 20, 19},
		"more":                {100, 20, 19},
		"fewer":               {7, 20, 7},
		"no bound but theirs": {7, 0, 7}, // 17 with those for pipelines
	} {
		d := newDriver(t, driver.Config{Pool: pooler.Config{MaxOpenConns: c.sockets}})
		for kind, keep := range map[string]func(*redis.Options){
			"cache":     func(o *redis.Options) { o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{} },
			"streaming": func(o *redis.Options) { o.StreamingCredentialsProvider = streaming{} },
		} {
			o := &redis.Options{Addr: labAddr, PoolSize: c.poolSize, ConnMaxLifetime: time.Hour}
			keep(o)
			if o = d.Options(o); o.PoolSize != c.want || o.PipelinePoolSize != -1 || o.ConnMaxLifetime != time.Hour {
				t.Errorf("%s, %s: %d handles, want %d; pipelines have %d, and lifetime %v", name, kind, o.PoolSize, c.want, o.PipelinePoolSize, o.ConnMaxLifetime)
			}
		}
	}
}

// Clients of one node share its pool, and each waits as long as it said.
func TestEachClientsOwnPoolTimeoutHolds(t *testing.T) {
	for name, c := range map[string]struct {
		pools time.Duration // Config.Pool.WaitTimeout
		want  [3]time.Duration
	}{
		"by each client":       {0, [3]time.Duration{200 * time.Millisecond, 3 * time.Second, 5 * time.Second}},
		"by the configuration": {time.Second, [3]time.Duration{time.Second, time.Second, time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, WaitTimeout: c.pools}}, func(t *lab) {
				holder := t.handle()
				holder.do("WATCH k", "+OK")
				for i, own := range []time.Duration{200 * time.Millisecond, 3 * time.Second, 0} {
					v := t.handle(func(o *redis.Options) { o.PoolTimeout = own })
					began := time.Now()
					_, err := v.Write([]byte(frames("GET k")))
					t.wantErr(err, pooler.ErrWaitTimeout)
					if took := time.Since(began); took != c.want[i] {
						t.Errorf("PoolTimeout %v: waited for %v, want %v", own, took, c.want[i])
					}
				}
			})
		})
	}
}

// PoolTimeout is about a full pool. Where a node is away, or a connection is being opened,
// a client with a short one waits as any other.
func TestAShortPoolTimeoutEndsNoWaitForANodeThatIsAway(t *testing.T) {
	inServers(t, 2, func(m *managed) {
		m.asCluster(0, 2)
		d := newDriver(m.T, driver.Config{Dial: m.dial})
		c := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}, PoolTimeout: 50 * time.Millisecond, MaxRedirects: -1}))
		touch(m.T, c)
		m.server(1).DownRefused()
		time.AfterFunc(3*time.Second, m.server(1).Up)
		began := time.Now()
		if err := c.Set(m.Context(), "{b}", 1, 0).Err(); err != nil || time.Since(began) < 3*time.Second { // slot 3300, the first server's
			m.Errorf("after %s: error %v", time.Since(began), err)
		}
		_ = c.Close()
		time.Sleep(time.Second) // it may be about to look once more
	})
}

// The stock client takes such options, and opens what it may.
func TestMinIdleConnsOverTheOtherOptionsAreCappedAndLoggedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		o    redis.Options
		want int
		says string
	}{
		"PoolSize":       {redis.Options{PoolSize: 5, MinIdleConns: 50}, 15, "PoolSize 5"},
		"MaxActiveConns": {redis.Options{MaxActiveConns: 4, PipelinePoolSize: -1, MinIdleConns: 50}, 4, "MaxActiveConns 4"},
		"MaxIdleConns":   {redis.Options{MaxIdleConns: 3, MinIdleConns: 5}, 3, "MaxIdleConns 3"},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(lines)
			inLab(t, driver.Config{Logger: log.logger()}, func(t *lab) {
				rdb := t.client(func(o *redis.Options) { c.o.Addr, c.o.MaxRetries = o.Addr, -1; *o = c.o })
				synctest.Wait()
				if n := t.f.Live(); n != c.want {
					t.Errorf("%d sockets, want %d", n, c.want)
				}
				for range 3 {
					if err := rdb.Watch(t.Context(), func(*redis.Tx) error { return nil }, "k"); err != nil {
						t.Error(err)
					}
				}
				if l := log.with("MinIdleConns is more"); len(l) != 1 || !strings.Contains(l[0], c.says) || !strings.Contains(l[0], "in_force="+strconv.Itoa(c.want)) {
					t.Errorf("logged %q", l)
				}
			})
		})
	}
}

// Numbers that come of the options are said with the options' names.
func TestWhatConfigAndOptionsMakeWrongTogetherNamesTheOptions(t *testing.T) {
	for _, pool := range []pooler.Config{{MinIdleConns: 5}, {SharedConns: 5}} {
		d := newDriver(t, driver.Config{Pool: pool})
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr, PoolSize: 2, PipelinePoolSize: -1, MaxRetries: -1}))
		err := rdb.Ping(t.Context()).Err()
		_ = rdb.Close()
		if !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), "MaxOpenConns, 2") || !strings.Contains(err.Error(), "PoolSize 2, PipelinePoolSize -1") {
			t.Errorf("%v", err)
		}
	}
}
