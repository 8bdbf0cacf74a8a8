package driver_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// BenchmarkGather is a GET of 32 bytes by so many goroutines at a time, gathered.
func BenchmarkGather(b *testing.B) {
	server := testkit.Start(b, testkit.Redis)
	d := newDriver(b, driver.Config{})
	c := redis.NewClient(d.Options(&redis.Options{Addr: server.Addr}))
	b.Cleanup(func() { _ = c.Close() })
	if _, err := d.Gather(c); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	if err := c.Set(ctx, "key", "01234567890123456789012345678901", 0).Err(); err != nil {
		b.Fatal(err)
	}
	for _, goroutines := range []int{1, 8, 64, 512, 2048} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			before := d.GatherStats()
			inParallel(b, goroutines, func() error { return c.Get(ctx, "key").Err() })
			after := d.GatherStats()
			if n := after.Batches - before.Batches; n > 0 {
				b.ReportMetric(float64(after.Gathered-before.Gathered)/float64(n), "cmds/batch")
			}
			b.ReportMetric(float64(after.Gathered-before.Gathered)/float64(b.N), "gathered/op")
			b.Log(after, before)
		})
	}
}
