// Package tracking lets the driver start hot-key tracking without importing it: that
// brings web pages and their templates, which most programs have no use for.
package tracking

import "github.com/redis/go-redis/v9"

// Start has the keys of a client counted, of the given shares of its reads and writes,
// under the names that Baseplate uses; stop ends that. Package hotkey sets it when it is
// part of the program; nil: it isn't.
var Start func(c redis.UniversalClient, reads, writes float64) (stop func() error, err error)
