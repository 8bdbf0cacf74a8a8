package driver

import (
	"slices"
	"sync"

	"github.com/everpool/everpool/pooler"
)

// maxHappenings bounds what is remembered of a node: a few outages.
const maxHappenings = 24

// chronicle is what has happened to a node lately. It is for whoever comes when it is
// over, and looks at a page: a log may be elsewhere, and counters don't say when.
type chronicle struct {
	mu  sync.Mutex
	all []pooler.Happening // those that were last, the oldest first
}

// note remembers an event. Hundreds of refused dials are one entry, which would push out
// the beginning of their outage otherwise. Pins are no news: requests make them.
func (c *chronicle) note(ev pooler.Event) {
	if ev.Kind == pooler.EventPin {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := pooler.Happening{Event: ev, First: ev.Time, Times: 1}
	for i, before := range slices.Backward(c.all) {
		if before.Kind == pooler.EventState || ev.Kind == pooler.EventState {
			break
		}
		if alike(before.Event, ev) {
			h.First, h.Times = before.First, before.Times+1
			c.all = slices.Delete(c.all, i, i+1)
			break
		}
	}
	if len(c.all) == maxHappenings {
		c.all = slices.Delete(c.all, 0, 1)
	}
	c.all = append(c.all, h)
}

// alike doesn't look at the errors' texts: they have the ports of connections in them.
func alike(a, b pooler.Event) bool {
	return a.Kind == b.Kind && a.Reason == b.Reason && (a.Err == nil) == (b.Err == nil)
}

// last are those that are remembered.
func (c *chronicle) last() []pooler.Happening {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}
