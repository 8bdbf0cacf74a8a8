// Package tracking lets the driver have hot keys tracked without importing package hotkey:
// that brings web pages and their templates, which most programs have no use for.
package tracking

import "github.com/everpool/everpool/internal/wiring"

// Option has the keys of a client counted, of the given shares of its reads and writes,
// under the names that Baseplate uses. Package hotkey sets it when it is part of the
// program; nil: it isn't.
var Option func(reads, writes float64) wiring.Option
