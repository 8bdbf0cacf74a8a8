// Package wiring is between driver, which makes clients, and the packages that watch
// them: driver imports none of those, and they don't import driver.
package wiring

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/pooler"
)

// Option has a client watched, and the pools that it stands on. It is a driver.Option.
type Option interface {
	// Wire says what is to be told to whom. What it has begun before it fails is ended
	// by what it has given to AtEnd.
	Wire(c *Client) error
}

// Nodes is what has pools.
type Nodes interface{ Nodes() []pooler.NodeStatus }

// Pools are told of all pools of a driver, once, however many clients are watched.
type Pools struct {
	Key     any // tells it apart: a pointer
	Watch   func(Nodes) (stop func(), err error)
	OnEvent func(pooler.Event)
	OnWait  func(node string, d time.Duration, err error) // nil: isn't told
}

// Course is what a request has gone through on its way to a reply, unnoticed by its caller.
type Course struct {
	Waited time.Duration // for a connection
	Moved  int           // times that it went on another connection, unsent
	Resent int           // times that it was sent again
}

// Client is one that is to be watched.
type Client struct {
	Redis redis.UniversalClient
	Pools []Pools
	// Courses are told of those requests of the client that have gone through something,
	// before their replies are read, with the context of their commands.
	Courses []func(context.Context, Course)

	tracing, others []any // observers
	attach          Attach
	ends            []func() error
}

// Attach has observers of package hooks watch a client, by one hook.
type Attach func(c redis.UniversalClient, observers []any) (detach func(), err error)

// Observe adds an observer, which is a pointer, unless it is there already. Tracing goes
// before all others, whose exemplars want the span.
func (c *Client) Observe(attach Attach, observer any, tracing bool) {
	c.attach = attach
	to := &c.others
	if tracing {
		to = &c.tracing
	}
	if !slices.Contains(*to, observer) {
		*to = append(*to, observer)
	}
}

// AtEnd has f called when the client isn't watched any more, the last first.
func (c *Client) AtEnd(f func() error) { c.ends = append(c.ends, f) }

// Attach has the observers watch the client.
func (c *Client) Attach() error {
	if c.attach == nil {
		return nil
	}
	detach, err := c.attach(c.Redis, append(slices.Clip(c.tracing), c.others...))
	if err == nil {
		c.AtEnd(func() error { detach(); return nil })
	}
	return err
}

// End ends it, once.
func (c *Client) End() error {
	var errs []error
	for _, end := range slices.Backward(c.ends) {
		errs = append(errs, end())
	}
	c.ends = nil
	return errors.Join(errs...)
}
