// Package observing is the part of package wiring that knows package hooks, which driver
// doesn't import.
package observing

import (
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/wiring"
)

// Add has an observer watch the client that is wired, with those of all other options by
// one hook: an operation is looked at once.
func Add(c *wiring.Client, o hooks.Observer) { c.Observe(attach, o, false) }

// AddTracing is [Add] for what makes spans.
func AddTracing(c *wiring.Client, o hooks.Observer) { c.Observe(attach, o, true) }

func attach(c redis.UniversalClient, observers []any) (func(), error) {
	all := make([]hooks.Observer, 0, len(observers))
	for _, o := range observers {
		all = append(all, o.(hooks.Observer))
	}
	hook, err := hooks.New(all...)
	if err != nil {
		return nil, err
	}
	return hook.Attach(c)
}

// Shared is what an option has made, for all clients that are watched by it.
type Shared[T any] struct {
	mu   sync.Mutex
	uses int
	made T
	end  func() error
}

// Use makes it for the first client, and has it ended with the last one.
func (s *Shared[T]) Use(c *wiring.Client, newT func() (made T, end func() error, err error)) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uses == 0 {
		var err error
		if s.made, s.end, err = newT(); err != nil {
			return s.made, err
		}
	}
	s.uses++
	c.AtEnd(s.release)
	return s.made, nil
}

func (s *Shared[T]) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uses--; s.uses > 0 {
		return nil
	}
	return s.end()
}
