package handle

import (
	"net"
	"os"
	"time"

	"github.com/everpool/everpool/internal/callers"
)

// SetDeadline sets both deadlines. go-redis clears them when it gives the handle
// to another caller: if one has left replies unread (go-redis leaves a refused
// transaction after the first), they must not be the next one's.
func (h *handle) SetDeadline(t time.Time) error {
	if h.setDeadlines(t) {
		h.ride.Close() // nobody reads what is left, and nobody else has to wait for that
	}
	return nil
}

// setDeadlines reports whether what is left unread is on a shared connection.
func (h *handle) setDeadlines(t time.Time) (leave bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unread = t.IsZero() && (h.b.got || h.held.any()) && !h.b.idle()
	if t.IsZero() {
		h.unstream()
		h.batches = 0
	}
	h.writeBy = given(t)
	h.setReadByLocked(t)
	return h.unread && h.ride.under
}

// SetReadDeadline bounds reading, that which is under way too.
func (h *handle) SetReadDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setReadByLocked(t)
	return nil
}

func (h *handle) setReadByLocked(t time.Time) {
	if t.Equal(h.readBy.Time) {
		return
	}
	h.readBy = given(t)
	if h.receiving {
		h.wayLocked().interrupt() // it reads on by the new deadline
	}
	h.toRead.open()
}

// SetWriteDeadline bounds writing, the wait for a connection included. A write
// that is under way keeps its deadline.
func (h *handle) SetWriteDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writeBy = given(t)
	return nil
}

// sendByLocked is the deadline of what is sent: that of a Read where a Read sends what Write
// has accepted, or sends again.
func (h *handle) sendByLocked() *deadline {
	if h.writing.ofRead {
		return &h.readBy
	}
	return &h.writeBy
}

// writeByLocked is by when what is sent is to be sent. All that may wait goes by it; what goes
// out with somebody else's doesn't, and is spared its look at the clock.
func (h *handle) writeByLocked() time.Time {
	d := h.sendByLocked()
	if d.Time == d.Round(0) {
		d.fix()
	}
	return d.Time
}

// deadline is a deadline of go-redis's. Zero: none.
type deadline struct {
	time.Time
	ofContext bool // it is the caller's context's, and not what is left of the client's patience

	patience time.Duration // what it has left at the first look; 0: none yet
	waited   time.Duration // by which it was put off: for a connection, and in line on one
}

// given is a deadline as go-redis sets it: what that adds up by itself is a time of the
// system's clock, without the monotonic reading that contexts have.
func given(t time.Time) deadline { return deadline{Time: t, ofContext: t != t.Round(0)} }

// fix makes the deadline one that stays where it is when the system's clock is set, and
// reports whether it has passed. It is to be called before anything waits.
func (d *deadline) fix() (passed bool) {
	if d.IsZero() {
		return false
	}
	now := time.Now()
	left := d.Sub(now)
	if d.patience == 0 {
		d.patience = left
	}
	d.Time = now.Add(left)
	return left <= 0
}

// putOffLocked gives a reply as much time again that others have kept waiting, and reports
// whether it does: what ReadTimeout bounds is how long a server takes for a request, and this
// one stands in line on a shared connection that is being answered. On the stock pool it would
// stand in line for a connection, as long as it may here, and as often as go-redis tries. The
// caller's context is asked for, which may end sooner. Gathered calls, whose context ends
// nothing, stand in line each for itself, those before them answered or not.
func (h *handle) putOffLocked() bool {
	by := &h.readBy
	asks, gathered := h.mayAskLocked(), callers.Include(callers.Flight)
	switch {
	case by.ofContext || !h.ride.under || h.b.hasOut() || h.b.shaking:
		return false
	case !gathered && (h.b.got || !asks && h.client.ContextTimeout):
		return false
	case !h.ride.IsAnswered(by.patience / 2):
		return false
	}
	more := by.patience
	if limit := h.waitLimit(); limit > 0 {
		more = min(more, limit*time.Duration(1+h.client.Retries)-by.waited)
	}
	if more <= 0 {
		return false
	}
	by.Time, by.waited = by.Add(more), by.waited+more
	if asks && !gathered {
		h.b.push(askForContext)
	}
	return true
}

// endedLocked reports whether the caller's context has ended what can't go on.
func (h *handle) endedLocked(l loss) bool {
	by := h.writeBy
	if !l.write {
		by = h.readBy
	}
	return by.ofContext && !time.Now().Before(by.Time)
}

// deadlineError is what a socket returns when its deadline has passed.
func (h *handle) deadlineError(op string) error {
	return &net.OpError{Op: op, Net: h.node.Network, Addr: h.RemoteAddr(), Err: os.ErrDeadlineExceeded}
}
