package handle

import (
	"errors"
	"syscall"
)

// IsVirtual marks a connection that is dialed without a socket: hooks don't take
// it for a dial of the network.
func (h *handle) IsVirtual() {}

// IsVirtual is as the handle's.
func (b *brokenHandle) IsVirtual() {}

// SyscallConn is what go-redis asks before it uses a handle again, to see whether
// its socket is still well. There is none to be shown; an error has go-redis drop
// the handle, which is cheap, and dial, where callers can wait: while the node
// doesn't serve, and when a connection that the handle has kept was closed. While calls
// fail without a wait it is the handle that tells them so: to dial costs more.
func (h *handle) SyscallConn() (syscall.RawConn, error) {
	away := Vetoes && h.isAway()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil && !(isDown(h.err) && h.mayReviveLocked()) {
		return nil, h.err
	}
	if !Vetoes {
		return noSocket{}, nil
	}
	switch c := h.lease; {
	case h.unread:
		return nil, errUnread
	case h.spentLocked() != nil:
		return nil, h.spentLocked()
	case c == nil && away:
		return nil, errAway
	case c == nil && h.turnedAwayLocked():
		return nil, errReplicaAway // a new handle says so
	case c == nil && h.shake.in.Pool.Dead(): // a new handle is told by the server why
		return nil, errRefused
	case c != nil && h.b.idle() && !h.sending && !h.receiving:
		// It stays parked until the next request: go-redis asks after the last one too.
		if !c.Ready() {
			return nil, errKeptGone
		}
	}
	return noSocket{}, nil
}

// isAway reports whether callers have to be told by another handle's dial that the node doesn't
// serve.
func (h *handle) isAway() bool {
	switch {
	case !h.client.WaitsInDial:
		return false
	case h.client.outlastsOutages():
		return !h.node.Pool.Serves() && !h.node.failsFast()
	}
	h.mu.Lock()
	lanes, rider := h.ride.shared, h.ride.Rider
	h.mu.Unlock()
	return !h.node.Serves(h.client, lanes, rider)
}

// SyscallConn has go-redis drop the handle.
func (b *brokenHandle) SyscallConn() (syscall.RawConn, error) { return nil, b.err }

// spentLocked is why go-redis had better make a new handle than use this one, which is idle,
// again; nil if it needn't.
func (h *handle) spentLocked() error {
	switch {
	case h.b.quits:
		return errQuit
	case h.lease == nil && h.strayedLocked():
		return errStrayed
	}
	return nil
}

// strayedLocked reports whether the node is no longer the heir of the address that was
// dialed. It would say MOVED, to where go-redis has dialed it for.
func (h *handle) strayedLocked() bool {
	t := h.client.Topology
	return t != nil && h.dialed != h.node.Addr && t.HeirOf(h.dialed) != h.node.Addr
}

var errStrayed = errors.New("everpool: the node that was dialed is back")

var errRefused = errors.New("everpool: the server refuses the session")

var errAway = errors.New("everpool: the node doesn't serve just now")

// noSocket is a socket on which nothing is to be seen.
type noSocket struct{}

func (noSocket) Control(func(uintptr)) error    { return nil }
func (noSocket) Read(func(uintptr) bool) error  { return nil }
func (noSocket) Write(func(uintptr) bool) error { return nil }
