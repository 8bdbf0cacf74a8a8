package bench

import (
	"context"
	"time"

	"github.com/redis/rueidis"
	"github.com/valkey-io/valkey-go"
)

// onRueidis is rueidis. It puts the commands of all goroutines on a few
// connections.
type onRueidis struct{ client rueidis.Client }

func newRueidis(s Setup) (Client, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr}})
	if err != nil {
		return nil, err
	}
	return &onRueidis{client}, nil
}

func (c *onRueidis) Get(ctx context.Context, key string) (string, error) {
	return c.client.Do(ctx, c.client.B().Get().Key(key).Build()).ToString()
}

func (c *onRueidis) Set(ctx context.Context, key, value string) error {
	return c.client.Do(ctx, c.client.B().Set().Key(key).Value(value).Build()).Error()
}

func (c *onRueidis) Incr(ctx context.Context, key string) error {
	return c.client.Do(ctx, c.client.B().Incr().Key(key).Build()).Error()
}

func (c *onRueidis) BLPop(ctx context.Context, key string, wait time.Duration) error {
	err := c.client.Do(ctx, c.client.B().Blpop().Key(key).Timeout(wait.Seconds()).Build()).Error()
	if rueidis.IsRedisNil(err) {
		return nil
	}
	return err
}

func (c *onRueidis) Pipeline(ctx context.Context, batch []Command) error {
	cmds := make(rueidis.Commands, len(batch))
	for i := range batch {
		if b := &batch[i]; b.Value != "" {
			cmds[i] = c.client.B().Set().Key(b.Key).Value(b.Value).Build()
		} else {
			cmds[i] = c.client.B().Get().Key(b.Key).Build()
		}
	}
	for i, r := range c.client.DoMulti(ctx, cmds...) {
		got, err := r.ToString()
		if err != nil {
			return err
		}
		batch[i].Got = got
	}
	return nil
}

func (c *onRueidis) Close() error {
	c.client.Close()
	return nil
}

// onValkey is valkey-go, which comes from rueidis.
type onValkey struct{ client valkey.Client }

func newValkey(s Setup) (Client, error) {
	client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{s.Addr}})
	if err != nil {
		return nil, err
	}
	return &onValkey{client}, nil
}

func (c *onValkey) Get(ctx context.Context, key string) (string, error) {
	return c.client.Do(ctx, c.client.B().Get().Key(key).Build()).ToString()
}

func (c *onValkey) Set(ctx context.Context, key, value string) error {
	return c.client.Do(ctx, c.client.B().Set().Key(key).Value(value).Build()).Error()
}

func (c *onValkey) Incr(ctx context.Context, key string) error {
	return c.client.Do(ctx, c.client.B().Incr().Key(key).Build()).Error()
}

func (c *onValkey) BLPop(ctx context.Context, key string, wait time.Duration) error {
	err := c.client.Do(ctx, c.client.B().Blpop().Key(key).Timeout(wait.Seconds()).Build()).Error()
	if valkey.IsValkeyNil(err) {
		return nil
	}
	return err
}

func (c *onValkey) Pipeline(ctx context.Context, batch []Command) error {
	cmds := make(valkey.Commands, len(batch))
	for i := range batch {
		if b := &batch[i]; b.Value != "" {
			cmds[i] = c.client.B().Set().Key(b.Key).Value(b.Value).Build()
		} else {
			cmds[i] = c.client.B().Get().Key(b.Key).Build()
		}
	}
	for i, r := range c.client.DoMulti(ctx, cmds...) {
		got, err := r.ToString()
		if err != nil {
			return err
		}
		batch[i].Got = got
	}
	return nil
}

func (c *onValkey) Close() error {
	c.client.Close()
	return nil
}
