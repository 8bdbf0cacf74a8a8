package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// shop is a shop's traffic, until the context is over: a few articles that
// everybody looks at, many that hardly anybody does, carts that are filled, and a
// mistake now and then.
func shop(until context.Context, rdb redis.UniversalClient) {
	ctx := context.WithoutCancel(until) // what has begun is finished
	for n := range 100 {
		rdb.Set(ctx, article(n), "a fine thing", time.Hour)
	}
	rdb.Set(ctx, "shop:motd", "hello", time.Hour)
	var wg sync.WaitGroup
	for id := range 4 {
		wg.Go(func() {
			// Few articles are asked for by many, as it is in life.
			random := rand.New(rand.NewPCG(uint64(id), 1))
			popular := rand.NewZipf(random, 1.3, 1, 199) // from 100 on there is no such article
			for visit := 0; until.Err() == nil; visit++ {
				customer(ctx, rdb, id, visit, func() string { return article(int(popular.Uint64())) })
			}
		})
	}
	wg.Wait()
}

func article(n int) string { return fmt.Sprintf("shop:article:%d", n) }

// customer is one visit. Errors are what this program is about: they show in the
// metrics.
func customer(ctx context.Context, rdb redis.UniversalClient, id, visit int, next func() string) {
	for range 8 {
		rdb.Get(ctx, next())
	}
	cart := fmt.Sprintf("shop:cart:%d-%d", id, visit%50)
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.HIncrBy(ctx, cart, next(), 1)
		p.Expire(ctx, cart, time.Hour)
		return nil
	})
	switch visit % 10 {
	case 0:
		_, _ = rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, "shop:orders")
			p.Expire(ctx, "shop:orders", time.Hour)
			p.Del(ctx, cart)
			return nil
		})
	case 1:
		rdb.Incr(ctx, "shop:motd") // no number: the server says no
	}
	time.Sleep(2 * time.Millisecond)
}
