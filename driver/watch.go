package driver

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/wiring"
	"github.com/everpool/everpool/pooler"
)

// Watch has a client watched, and the driver's pools, until end is called:
//
//	end, err := d.Watch(rdb, otelhooks.Option(), promhooks.Option(registry, "orders"), hotkey.Option(cfg, nil))
//
// The options are those of these packages, in any order; [Open] and [Manager.Add] take
// them too. What watches commands is one hook on the client: hooks that were added before
// are further outside, and it turns [Driver.Gather] off for the client if that came
// before. Pools are told of as long as one client is watched by the option.
// Watch may be called at any time, and fails with what an option fails with, and for an
// option that is nil or only for Open; then nothing is watched. end may be called again.
// Call it before the client's Close, which it doesn't do, if hot keys are kept by that
// client. Neither does any network I/O but what hot keys are flushed by.
func (d *Driver) Watch(c redis.UniversalClient, opts ...Option) (end func() error, err error) {
	if err := d.unmade(); err != nil {
		return nil, err
	}
	if db, ok := c.(*DB); ok && db != nil {
		return d.watch(db.UniversalClient, db.binding, opts)
	}
	dial, _ := dialerOf(c)
	return d.watch(c, bindingOf(dial), opts)
}

// watch has a client watched; of one that isn't on this driver the binding is nil.
func (d *Driver) watch(c redis.UniversalClient, b *binding, opts []Option) (end func() error, err error) {
	w := &wiring.Client{Redis: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.End())
		}
	}()
	for i, o := range opts {
		if o == nil {
			return nil, complaint("option %d is nil", i)
		}
		if err := o.Wire(w); err != nil {
			return nil, err
		}
	}
	for _, p := range w.Pools {
		stop, err := d.watchers.add(p, poolsOf{d.core})
		if err != nil {
			return nil, err
		}
		w.AtEnd(func() error { stop(); return nil })
	}
	if err := w.Attach(); err != nil {
		return nil, err
	}
	if b != nil {
		stop := b.Courses.Listen(c, w.Courses)
		w.AtEnd(func() error { stop(); return nil })
	}
	return sync.OnceValue(w.End), nil
}

// errOnlyForOpen is the error of giving one of this package's options to Watch.
var errOnlyForOpen = complaint("an option of package driver was given to Watch; it is for Open, NewManager and Manager.Add")

// poolsOf are the pools of all drivers that have them in common.
type poolsOf struct{ *core }

// Nodes is that of any of the drivers.
func (p poolsOf) Nodes() []NodeStatus { return (&Driver{core: p.core}).Nodes() }

// watchers are told what happens in the pools.
type watchers struct {
	mu  sync.Mutex // for changing all
	all atomic.Pointer[[]*watcher]
}

// watcher is one of them, with the number of clients that it is there for.
type watcher struct {
	wiring.Pools
	uses int
	stop func()
}

func (w *watchers) list() []*watcher {
	if all := w.all.Load(); all != nil {
		return *all
	}
	return nil
}

// add has p told until stop is called, once for each call.
func (w *watchers) add(p wiring.Pools, nodes wiring.Nodes) (stop func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.list()
	i := slices.IndexFunc(all, func(o *watcher) bool { return o.Key == p.Key })
	if i < 0 {
		stop, err := p.Watch(nodes)
		if err != nil {
			return nil, err
		}
		i, all = len(all), append(slices.Clip(all), &watcher{Pools: p, stop: stop})
		w.all.Store(&all)
	}
	used := all[i]
	used.uses++
	return func() { w.remove(used) }, nil
}

func (w *watchers) remove(used *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if used.uses--; used.uses > 0 {
		return
	}
	used.stop()
	all := slices.DeleteFunc(slices.Clone(w.list()), func(o *watcher) bool { return o == used })
	w.all.Store(&all)
}

// event tells all of an event.
func (w *watchers) event(ev pooler.Event) {
	for _, o := range w.list() {
		o.OnEvent(ev)
	}
}

// waited tells all of a wait, and next, which may be nil.
func (w *watchers) waited(next func(string, time.Duration, error)) func(string, time.Duration, error) {
	return func(node string, d time.Duration, err error) {
		for _, o := range w.list() {
			if o.OnWait != nil {
				o.OnWait(node, d, err)
			}
		}
		if next != nil {
			next(node, d, err)
		}
	}
}

// watch has the options watch the client that was opened.
func (db *DB) watch(opts []Option) error {
	if len(opts) == 0 {
		return nil
	}
	end, err := db.Driver.watch(db.UniversalClient, db.binding, opts)
	if err != nil {
		return fmt.Errorf("%w: %w", pooler.ErrConfig, err)
	}
	db.ends = append(db.ends, end)
	return nil
}
