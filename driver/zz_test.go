package driver_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func cpu() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(0, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func TestZZ(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	mo, _ := strconv.Atoi(os.Getenv("ZMO")); d := newDriver(t, driver.Config{Pool: pooler.Config{MaxOpenConns: mo}})
	so := &redis.Options{Addr: s.Addr}; so.PoolSize, _ = strconv.Atoi(os.Getenv("ZSP")); stock := redis.NewClient(so)
	oo := d.Options(&redis.Options{Addr: s.Addr}); if z, err := strconv.Atoi(os.Getenv("ZBUF")); err == nil { oo.ReadBufferSize = z; oo.WriteBufferSize = z }; if z, err := strconv.Atoi(os.Getenv("ZPS")); err == nil { oo.PoolSize = z }; ours := redis.NewClient(oo)
	stock.Set(context.Background(), "k", "01234567890123456789012345678901", 0)
	gs := []int{1, 8, 64, 512}
	if g, err := strconv.Atoi(os.Getenv("ZG")); err == nil {
		gs = []int{g}
	}
	only := os.Getenv("ZONLY")
	for _, g := range gs {
		var tot [2]float64
		var cp [2]time.Duration
		for round := 0; round < 8; round++ {
			for i, c := range []*redis.Client{stock, ours} {
				if only == "ours" && i == 0 || only == "stock" && i == 1 {
					continue
				}
				b := cpu()
				n := run(c, g, 400*time.Millisecond)
				cp[i] += cpu() - b
				tot[i] += float64(n)
			}
		}
		fmt.Printf("g=%d stock %.0f/s %.1fus/op ours %.0f/s %.1fus/op ratio %.3f cpu %.3f\n", g, tot[0]/3.2, float64(cp[0])/1000/tot[0], tot[1]/3.2, float64(cp[1])/1000/tot[1], tot[1]/tot[0], float64(cp[1])/tot[1]/(float64(cp[0])/tot[0]))
	}
}

func run(c *redis.Client, g int, d time.Duration) int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	end := time.Now().Add(d)
	for range g {
		wg.Go(func() {
			n := 0
			for time.Now().Before(end) {
				if err := c.Get(context.Background(), "k").Err(); err != nil {
					panic(err)
				}
				n++
			}
			mu.Lock()
			total += n
			mu.Unlock()
		})
	}
	wg.Wait()
	return total
}
