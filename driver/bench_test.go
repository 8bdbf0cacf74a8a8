package driver_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// benchPools are the sides of every comparison: the stock pool, everpool as it is
// by default, and with a lease for every request. They alternate when the
// benchmark is run several times (make bench), not with -count.
func benchPools(b *testing.B, addr string) map[string]*redis.Client {
	b.Helper()
	pools := map[string]*redis.Client{
		"stock":    redis.NewClient(&redis.Options{Addr: addr}),
		"everpool": redis.NewClient(newDriver(b, driver.Config{}).Options(&redis.Options{Addr: addr})),
		"leases":   redis.NewClient(newDriver(b, driver.Config{Pool: pooler.Config{SharedConns: -1}}).Options(&redis.Options{Addr: addr})),
	}
	for _, c := range pools {
		b.Cleanup(func() { _ = c.Close() })
	}
	return pools
}

// inParallel runs f on so many goroutines, b.N times together, and reports the
// process's CPU time for each operation.
func inParallel(b *testing.B, goroutines int, f func() error) {
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	before := processCPU()
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((processCPU()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkGet is a GET of 32 bytes by so many goroutines at a time.
func BenchmarkGet(b *testing.B) {
	server := testkit.Start(b, testkit.Redis)
	pools := benchPools(b, server.Addr)
	ctx := context.Background()
	if err := pools["stock"].Set(ctx, "key", "01234567890123456789012345678901", 0).Err(); err != nil {
		b.Fatal(err)
	}
	for _, goroutines := range []int{1, 2, 4, 8, 64, 512} {
		for _, pool := range []string{"stock", "everpool", "leases"} {
			b.Run(fmt.Sprintf("goroutines=%d/pool=%s", goroutines, pool), func(b *testing.B) {
				c := pools[pool]
				inParallel(b, goroutines, func() error { return c.Get(ctx, "key").Err() })
			})
		}
	}
}

// BenchmarkPipeline is a pipeline of so many SETs of 32 bytes, by 8 goroutines.
func BenchmarkPipeline(b *testing.B) {
	server := testkit.Start(b, testkit.Redis)
	pools := benchPools(b, server.Addr)
	ctx := context.Background()
	for _, size := range []int{10, 1000} {
		for _, pool := range []string{"stock", "everpool", "leases"} {
			b.Run(fmt.Sprintf("commands=%d/pool=%s", size, pool), func(b *testing.B) {
				c := pools[pool]
				inParallel(b, 8, func() error {
					_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
						for range size {
							p.Set(ctx, "key", "01234567890123456789012345678901", 0)
						}
						return nil
					})
					return err
				})
			})
		}
	}
}

// BenchmarkMixedPipeline is a pipeline of 100 commands with values of 1 KiB, of which
// every fifth is a SET and the others are GETs, by so many goroutines at a time.
func BenchmarkMixedPipeline(b *testing.B) {
	server := testkit.Start(b, testkit.Redis)
	pools := benchPools(b, server.Addr)
	ctx := context.Background()
	value := strings.Repeat("v", 1<<10)
	if err := pools["stock"].Set(ctx, "key", value, 0).Err(); err != nil {
		b.Fatal(err)
	}
	mixed := func(p redis.Pipeliner) error {
		for i := range 100 {
			if i%5 == 0 {
				p.Set(ctx, "key", value, 0)
			} else {
				p.Get(ctx, "key")
			}
		}
		return nil
	}
	for _, goroutines := range []int{1, 8, 64, 200} {
		for _, pool := range []string{"stock", "everpool", "leases"} {
			b.Run(fmt.Sprintf("goroutines=%d/pool=%s", goroutines, pool), func(b *testing.B) {
				c := pools[pool]
				inParallel(b, goroutines, func() error {
					_, err := c.Pipelined(ctx, mixed)
					return err
				})
			})
		}
	}
}

// BenchmarkValue is a GET of a large value by one goroutine.
func BenchmarkValue(b *testing.B) {
	server := testkit.Start(b, testkit.Redis)
	pools := benchPools(b, server.Addr)
	ctx := context.Background()
	for _, size := range []int{1 << 10, 64 << 10, 8 << 20} {
		if err := pools["stock"].Set(ctx, "key", make([]byte, size), 0).Err(); err != nil {
			b.Fatal(err)
		}
		for _, pool := range []string{"stock", "everpool", "leases"} {
			b.Run(fmt.Sprintf("bytes=%d/pool=%s", size, pool), func(b *testing.B) {
				c := pools[pool]
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := c.Get(ctx, "key").Err(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkHandleMemory is what an idle handle costs, with and without the
// go-redis connection around it, and what a physical connection costs.
func BenchmarkHandleMemory(b *testing.B) {
	fake := testkit.NewFake()
	defer fake.Close()
	ctx := context.Background()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const handles = 1000
	for b.Loop() {
		d, err := driver.New(driver.Config{Dial: fake.Dial})
		if err != nil {
			b.Fatal(err)
		}
		o := d.Options(&redis.Options{Addr: "192.0.2.1:6379"})
		before := heap()
		conns := make([]interface{ Close() error }, handles)
		for i := range conns {
			if conns[i], err = o.Dialer(ctx, "tcp", o.Addr); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/handles, "B/handle")
		for _, c := range conns {
			_ = c.Close()
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
