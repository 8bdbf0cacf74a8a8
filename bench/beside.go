package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Beside is what others do on the server, or with the same client, while it is measured.
type Beside string

// What may go on beside.
const (
	BesideNothing Beside = ""
	BesideScript  Beside = "script" // of about 20 ms, by another program, each second
	BesideBlocked Beside = "blpop"  // 30 callers of the client wait for a list
	BesideLarge   Beside = "large"  // two callers of the client get 1 MiB over and over
)

var besides = []Beside{BesideScript, BesideBlocked, BesideLarge}

// ParseBeside returns what has that name; "" is nothing.
func ParseBeside(name string) (Beside, error) {
	if b := Beside(name); b == BesideNothing || slices.Contains(besides, b) {
		return b, nil
	}
	return "", fmt.Errorf("%q beside; allowed are %s, %s and %s", name, besides[0], besides[1], besides[2])
}

// blocker is a client that can wait for an element of a list.
type blocker interface {
	// BLPop waits for an element for so long, in whole seconds, and leaves it at that.
	BLPop(ctx context.Context, key string, wait time.Duration) error
}

const (
	besideCallers = 30
	besideWait    = time.Second
	queueKey      = "bench:queue" // stays empty
	largeKey      = "bench:large"
	largeSize     = 1 << 20
	// busyScript takes about 20 ms.
	busyScript = "local n = 0 for i = 1, 2000000 do n = n + i end return n"
)

// fill stores what it needs.
func (b Beside) fill(ctx context.Context, c Client) error {
	if b != BesideLarge {
		return nil
	}
	return c.Set(ctx, largeKey, strings.Repeat("x", largeSize))
}

// start begins it. The function that it returns ends it.
func (b Beside) start(ctx context.Context, s *Server, c Client) (end func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	repeat := func(callers int, do func() error) {
		for range callers {
			wg.Go(func() {
				for ctx.Err() == nil {
					if do() != nil {
						return
					}
				}
			})
		}
	}
	switch b {
	case BesideScript:
		tick := time.NewTicker(time.Second)
		repeat(1, func() error {
			_, err := s.process.Call(ctx, "EVAL", busyScript, "0")
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
			return err
		})
	case BesideBlocked:
		waits, ok := c.(blocker)
		if !ok {
			cancel()
			return nil, fmt.Errorf("%T can't wait for a list", c)
		}
		repeat(besideCallers, func() error { return waits.BLPop(context.WithoutCancel(ctx), queueKey, besideWait) })
	case BesideLarge:
		repeat(2, func() error {
			_, err := c.Get(context.WithoutCancel(ctx), largeKey)
			return err
		})
	}
	return func() { cancel(); wg.Wait() }, nil
}
