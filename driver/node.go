package driver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/everpool/everpool/pooler"
)

// lingerFor is how long the idle connections of a node outlive its last handle.
// go-redis may be without a handle for a moment between two requests.
const lingerFor = time.Second

// node is one address: its pool, what is remembered of its sessions, and how
// many handles there are.
type node struct {
	key    nodeKey
	first  *binding // whose settings the pool has
	pool   pooler.Pooler
	memory *memory

	// Policies. Where handles don't wait, callers don't in the dial, and handles
	// aren't dropped: requests meet an outage when they are written.
	shares bool // the pool has shared connections
	waits  bool // handles wait for the node

	buffers buffers          // for large batches
	forget  func(*node) bool // takes it out of the driver, unless it is in use

	told map[string]bool // notes of settings that later clients asked for in vain; guarded by Driver.mu

	mu      sync.Mutex
	handles int
	closed  bool
	linger  *time.Timer
}

func (n *node) attach() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handles++
	if n.linger != nil {
		n.linger.Stop()
	}
}

func (n *node) detach() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.handles--; n.handles > 0 || n.closed {
		return
	}
	if n.linger == nil {
		n.linger = time.AfterFunc(lingerFor, n.drain)
	} else {
		n.linger.Reset(lingerFor)
	}
}

// drain closes what nobody uses any more.
func (n *node) drain() {
	if n.key.tls != nil || n.key.own != nil {
		// Others like it may never come, and there may be any number of those.
		if n.forget(n) {
			_ = n.close()
		}
		return
	}
	n.mu.Lock()
	unused := n.handles == 0 && !n.closed
	n.mu.Unlock()
	if unused {
		n.pool.Drain()
	}
}

func (n *node) close() error {
	n.mu.Lock()
	n.closed = true
	if n.linger != nil {
		n.linger.Stop()
	}
	n.mu.Unlock()
	return n.pool.Close()
}

func (n *node) status() NodeStatus {
	n.mu.Lock()
	handles := n.handles
	n.mu.Unlock()
	st := n.pool.Stats()
	return NodeStatus{
		Network: n.key.network, Addr: n.key.addr, TLS: n.key.tls != nil,
		Handles: handles, State: st.State, Since: st.Since, Stats: st,
	}
}

// stateChanged logs the change. A node that came back may be another server, or
// another version of it: what the old one refused as unknown is asked again.
func (n *node) stateChanged(log *slog.Logger, ev pooler.Event) {
	if ev.State == pooler.StateUp {
		n.memory.forgetRefusals()
	}
	level := slog.LevelWarn
	if ev.State == pooler.StateUp {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{
		slog.String("node", ev.Node), slog.String("state", ev.State.String()), slog.String("previous", ev.Previous.String()),
	}
	if ev.Err != nil {
		attrs = append(attrs, slog.String("error", ev.Err.Error()))
	}
	if ev.Duration > 0 {
		attrs = append(attrs, slog.Duration("outage", ev.Duration))
	}
	log.LogAttrs(context.Background(), level, "everpool: node is "+ev.State.String(), attrs...)
}
