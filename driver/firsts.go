package driver

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/everpool/everpool/pooler"
)

// quietFor is for how long nothing of a kind happens before the next is a first one
// again, where the node's state doesn't tell one outage from another.
const quietFor = time.Minute

// first tells the first of something in an outage from all others.
type first struct{ last atomic.Int64 } // when it happened, as of UnixNano; 0: not in this outage

func (f *first) happens() (isFirst bool) {
	now := time.Now().UnixNano()
	last := f.last.Swap(now)
	return last == 0 || now-last >= int64(quietFor)
}

// firsts are what is logged of an outage when it happens first, since a line for each
// request would be a load of its own.
type firsts struct {
	log     func(text string, attrs ...slog.Attr) // under no lock
	unknown first                                 // outcome
	timeout first                                 // of a wait for a connection
}

// newFirsts logs on a goroutine of the driver's: what happens is noted under locks, and
// a logger is the user's.
func (d *Driver) newFirsts() firsts {
	return firsts{log: func(text string, attrs ...slog.Attr) {
		d.start(func(ctx context.Context) { d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, text, attrs...) })
	}}
}

// over begins a new outage.
func (f *firsts) over() {
	f.unknown.last.Store(0)
	f.timeout.last.Store(0)
}

// unknownOutcome notes that a caller is told so of a command, or of it and others with it.
func (f *firsts) unknownOutcome(node, command string) {
	if f.unknown.happens() {
		f.log("everpool: the outcome of a request is unknown; those that follow are counted, and not logged", slog.String("node", node), slog.String("command", command))
	}
}

// waited notes the end of a wait, and tells next.
func (f *firsts) waited(next func(string, time.Duration, error)) func(string, time.Duration, error) {
	return func(node string, d time.Duration, err error) {
		if err != nil && errors.Is(err, pooler.ErrWaitTimeout) && f.timeout.happens() {
			f.log("everpool: a request got no connection in time; those that follow are counted, and not logged",
				slog.String("node", node), slog.Duration("waited", d), slog.String("error", err.Error()))
		}
		next(node, d, err)
	}
}

// announce logs the settings in force of a node that was made, at level debug: they are
// of use where something is looked into, and a cluster of a hundred nodes would begin
// each program with a hundred lines.
func (d *Driver) announce(n *node) {
	if ctx := context.Background(); d.cfg.Logger.Enabled(ctx, slog.LevelDebug) {
		d.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "everpool: node is used",
			slog.String("node", n.key.addr), slog.String("network", n.key.network), slog.Bool("tls", n.key.tls != nil),
			slog.String("retry", d.cfg.Retry.String()), slog.Any("pool", n.first.pool))
	}
}
