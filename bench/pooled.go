package bench

import (
	"context"

	"github.com/gomodule/redigo/redis"
	"github.com/mediocregopher/radix/v4"
)

// redigoConns is go-redis's default pool on the machine of the published
// figures; redigo has no default of its own.
const redigoConns = 20

// onRedigo is redigo's pool, one connection for each call.
type onRedigo struct{ pool *redis.Pool }

func newRedigo(s Setup) (Client, error) { return redigoPool(s, redigoConns), nil }

func newRedigoN(s Setup) (Client, error) { return redigoPool(s, s.Goroutines), nil }

func redigoPool(s Setup, conns int) *onRedigo {
	return &onRedigo{&redis.Pool{
		MaxActive: conns,
		MaxIdle:   conns,
		Wait:      true,
		DialContext: func(ctx context.Context) (redis.Conn, error) {
			return redis.DialContext(ctx, "tcp", s.Addr)
		},
	}}
}

func (c *onRedigo) Get(ctx context.Context, key string) (string, error) {
	conn, err := c.pool.GetContext(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return redis.String(redis.DoContext(conn, ctx, "GET", key))
}

func (c *onRedigo) Set(ctx context.Context, key, value string) error {
	conn, err := c.pool.GetContext(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = redis.DoContext(conn, ctx, "SET", key, value)
	return err
}

func (c *onRedigo) Incr(ctx context.Context, key string) error {
	conn, err := c.pool.GetContext(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = redis.DoContext(conn, ctx, "INCR", key)
	return err
}

func (c *onRedigo) Pipeline(ctx context.Context, batch []Command) error {
	conn, err := c.pool.GetContext(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := range batch {
		if b := &batch[i]; b.Value != "" {
			err = conn.Send("SET", b.Key, b.Value)
		} else {
			err = conn.Send("GET", b.Key)
		}
		if err != nil {
			return err
		}
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	for i := range batch {
		if batch[i].Got, err = redis.String(redis.ReceiveContext(conn, ctx)); err != nil {
			return err
		}
	}
	return nil
}

func (c *onRedigo) Close() error { return c.pool.Close() }

// onRadix is radix's pool, whose connections carry several calls at a time.
type onRadix struct{ client radix.Client }

func newRadix(s Setup) (Client, error) {
	client, err := (radix.PoolConfig{}).New(context.Background(), "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	return &onRadix{client}, nil
}

func (c *onRadix) Get(ctx context.Context, key string) (got string, err error) {
	err = c.client.Do(ctx, radix.Cmd(&got, "GET", key))
	return got, err
}

func (c *onRadix) Set(ctx context.Context, key, value string) error {
	return c.client.Do(ctx, radix.Cmd(nil, "SET", key, value))
}

func (c *onRadix) Incr(ctx context.Context, key string) error {
	return c.client.Do(ctx, radix.Cmd(nil, "INCR", key))
}

func (c *onRadix) Pipeline(ctx context.Context, batch []Command) error {
	p := radix.NewPipeline()
	for i := range batch {
		if b := &batch[i]; b.Value != "" {
			p.Append(radix.Cmd(nil, "SET", b.Key, b.Value))
		} else {
			p.Append(radix.Cmd(&b.Got, "GET", b.Key))
		}
	}
	return c.client.Do(ctx, p)
}

func (c *onRadix) Close() error { return c.client.Close() }
