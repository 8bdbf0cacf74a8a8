package pooler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Holder is what some of the connections that are in use are doing.
type Holder struct {
	What   string        // the command that they were leased for, and in parentheses why they outlast it
	Conns  int           // so many
	Oldest time.Duration // for how long the oldest of them has been held; 0 of shared ones, which nobody holds
}

// lateReplies is what connections do that wait for an abandoned request's replies.
const lateReplies = "late replies"

// holdersLocked returns who holds connections, those who hold most first.
func (p *Pool) holdersLocked(now time.Duration) []Holder {
	held := make(map[string]Holder)
	for c := range p.conns.all {
		what := c.lease.holder
		switch {
		case c.place == placeDraining:
			what = lateReplies
		case c.place != placeLeased:
			continue
		case c.lease.pin != "":
			what += " (" + c.lease.pin + ")"
		}
		h := held[what]
		if h.What, h.Conns = what, h.Conns+1; c.lane == nil {
			h.Oldest = max(h.Oldest, now-c.lease.since)
		}
		held[what] = h
	}
	return slices.SortedFunc(maps.Values(held), func(a, b Holder) int {
		return cmp.Or(b.Conns-a.Conns, strings.Compare(a.What, b.What))
	})
}

// busyErrorLocked is an error that says who holds the connections, or that the pool
// isn't full: then it is a new connection that takes too long, as of a frozen server, and
// more room would be of no use.
func (p *Pool) busyErrorLocked(sentinel error, waited time.Duration) *Error {
	e := p.downErrorLocked(sentinel)
	e.Waited, e.Open, e.Max, e.Waiting = waited, len(p.conns.all), p.boundLocked(), p.queue.waiting
	all := p.holdersLocked(p.now())
	for _, h := range all {
		if h.What != lateReplies {
			e.Leased += h.Conns
		}
	}
	e.mostly, e.Holders = printHolders(all)
	if e.opening = !p.fullLocked(); e.opening {
		e.mostly = ""
	}
	return e
}

// printHolders prints the counts, the largest first, whose name it returns too.
func printHolders(all []Holder) (mostly, text string) {
	if len(all) == 0 {
		return "", ""
	}
	const most = 5
	var parts []string
	var oldest time.Duration
	for i, h := range all {
		if i < most {
			parts = append(parts, fmt.Sprintf("%d %s", h.Conns, h.What))
		}
		if h.What != lateReplies {
			oldest = max(oldest, h.Oldest)
		}
	}
	if len(all) > most {
		parts = append(parts, "others")
	}
	return all[0].What, fmt.Sprintf("%s, the oldest for %s", strings.Join(parts, ", "), oldest.Round(time.Millisecond))
}
