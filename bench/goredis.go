package bench

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// goRedis is go-redis on any kind of connection, and its AutoPipeline.
type goRedis struct {
	cmd    redis.Cmdable
	closer []io.Closer // in the order of closing
}

func newStock(s Setup) (Client, error) {
	return onClient(stock(s)), nil
}

// universal is what go-redis's clients of one server and of a cluster can do.
type universal interface {
	redis.UniversalClient
	AutoPipeline() (*redis.AutoPipeliner, error)
}

func stock(s Setup) universal {
	if s.Cluster {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr}})
	}
	return redis.NewClient(&redis.Options{Addr: s.Addr})
}

// on is a client on the driver.
func on(d *driver.Driver, s Setup) universal {
	if s.Cluster {
		rdb := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{s.Addr}}))
		d.Bind(rdb)
		return rdb
	}
	return redis.NewClient(d.Options(&redis.Options{Addr: s.Addr}))
}

func newStockN(s Setup) (Client, error) {
	return onOptions(&redis.Options{Addr: s.Addr, PoolSize: s.Goroutines}), nil
}

func newAutoPipeline(s Setup) (Client, error) {
	return autoPipelined(stock(s))
}

func newEverpoolAutoPipeline(s Setup) (Client, error) {
	d, err := newDriver(driver.Config{})
	if err != nil {
		return nil, err
	}
	return autoPipelined(on(d, s), d)
}

// autoPipelined is the AutoPipeline of a client, which it closes with what comes
// after it.
func autoPipelined(rdb universal, then ...io.Closer) (Client, error) {
	closer := append([]io.Closer{rdb}, then...)
	ap, err := rdb.AutoPipeline()
	if err != nil {
		return nil, errors.Join(err, (&goRedis{closer: closer}).Close())
	}
	return &goRedis{cmd: ap, closer: append([]io.Closer{ap}, closer...)}, nil
}

func newEverpool(s Setup) (Client, error) {
	return onDriver(s, driver.Config{})
}

func newEverpoolGathered(s Setup) (Client, error) {
	d, err := newDriver(driver.Config{})
	if err != nil {
		return nil, err
	}
	rdb := on(d, s)
	c := &goRedis{cmd: rdb, closer: []io.Closer{rdb, d}}
	if _, err := d.Gather(rdb); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func newEverpoolLeases(s Setup) (Client, error) {
	return onDriver(s, driver.Config{Pool: pooler.Config{SharedConns: -1}})
}

// newFloor has the options that [driver.Driver.Options] would choose.
func newFloor(s Setup) (Client, error) { return onMemory(s, nil) }

func newFloorParked(s Setup) (Client, error) { return onMemory(s, newGate(s.Goroutines)) }

func onMemory(s Setup, wait *gate) (Client, error) {
	reply := bulk(s.ValueSize)
	return onOptions(&redis.Options{
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			c := newMemoryConn(reply)
			c.wait = wait
			return c, nil
		},
		PoolSize:                 4096,
		ReadBufferSize:           1024,
		WriteBufferSize:          1024,
		ConnMaxIdleTime:          -1,
		DialerRetries:            1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}), nil
}

func onOptions(o *redis.Options) *goRedis { return onClient(redis.NewClient(o)) }

func onClient(rdb universal) *goRedis {
	return &goRedis{cmd: rdb, closer: []io.Closer{rdb}}
}

func newDriver(cfg driver.Config) (*driver.Driver, error) {
	cfg.Logger = slog.New(slog.DiscardHandler) // a node that comes up is no news here
	return driver.New(cfg)
}

func onDriver(s Setup, cfg driver.Config) (Client, error) {
	d, err := newDriver(cfg)
	if err != nil {
		return nil, err
	}
	rdb := on(d, s)
	return &goRedis{cmd: rdb, closer: []io.Closer{rdb, d}}, nil
}

func (c *goRedis) Get(ctx context.Context, key string) (string, error) {
	return c.cmd.Get(ctx, key).Result()
}

func (c *goRedis) Set(ctx context.Context, key, value string) error {
	return c.cmd.Set(ctx, key, value, 0).Err()
}

func (c *goRedis) Incr(ctx context.Context, key string) error {
	return c.cmd.Incr(ctx, key).Err()
}

func (c *goRedis) BLPop(ctx context.Context, key string, wait time.Duration) error {
	err := c.cmd.BLPop(ctx, wait, key).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

func (c *goRedis) Pipeline(ctx context.Context, batch []Command) error {
	p := c.cmd.Pipeline()
	for i := range batch {
		if b := &batch[i]; b.Value != "" {
			p.Set(ctx, b.Key, b.Value, 0)
		} else {
			p.Get(ctx, b.Key)
		}
	}
	replies, err := p.Exec(ctx)
	if err != nil {
		return err
	}
	for i, r := range replies {
		if s, ok := r.(*redis.StringCmd); ok {
			batch[i].Got = s.Val()
		}
	}
	return nil
}

func (c *goRedis) Close() error {
	var errs []error
	for _, closer := range c.closer {
		errs = append(errs, closer.Close())
	}
	return errors.Join(errs...)
}
