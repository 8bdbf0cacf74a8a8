package testkit

import (
	"context"
	"net"
	"sync"
)

// Census counts the sockets that are opened through it. It is safe for concurrent use.
type Census struct {
	mu                sync.Mutex
	dials, open, peak int
}

// Through returns dial with its sockets counted, from when they are dialed until they
// are closed.
func (c *Census) Through(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c.mu.Lock()
		c.dials++
		c.open++
		c.peak = max(c.peak, c.open)
		c.mu.Unlock()
		nc, err := dial(ctx, network, addr)
		if err != nil {
			c.leave()
			return nil, err
		}
		return &counted{nc, sync.OnceFunc(c.leave)}, nil
	}
}

func (c *Census) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
}

// Dials is how many dials have begun.
func (c *Census) Dials() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dials
}

// Open is how many sockets there are, those that are being dialed included.
func (c *Census) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// Peak is the most that Open has been since ResetPeak.
func (c *Census) Peak() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peak
}

// ResetPeak begins to look for the peak anew.
func (c *Census) ResetPeak() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peak = c.open
}

// counted is a socket until it is closed.
type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
