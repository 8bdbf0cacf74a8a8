package handle

import (
	"bytes"
	"context"
	"time"

	"github.com/everpool/everpool/internal/command"
)

// A cluster that elects, or has just been started, refuses everything for a while. go-redis
// asks again a few times, and soon: so a refusal isn't passed on at once.

// refusalPause is how long a cluster's refusal isn't passed on, unless its reader has less
// than twice the time: go-redis tries it MaxRedirects times, 8 by default, which is to be
// longer than the 2 s for which a primary that has just started refuses writes. Where ASK has
// led to it only every second try is of the refusal, so it is three times as long.
const refusalPause = 250 * time.Millisecond

// refusal is one that isn't passed on yet.
type refusal struct {
	replies []byte
	until   time.Time
	of      context.Context // the caller's; nil: not known
}

var (
	okReply  = []byte("+OK\r\n")
	slotless = []byte("-CLUSTERDOWN Hash slot not served") // of a node for which nobody has the slot
)

// refusedByCluster reports whether the replies begin with a cluster's refusal. That of a
// transaction comes later, and go-redis doesn't try it again.
func refusedByCluster(replies []byte) bool {
	return bytes.HasPrefix(replies, []byte("-CLUSTERDOWN "))
}

// pauseOfLocked is how long what was read isn't passed on, 0: it is. first says that nothing
// was read of the batch's replies before, answered how many of its runs were answered. What a
// replica refuses to a reader, or who has lost its slots, another node may serve, which
// go-redis asks next.
func (h *handle) pauseOfLocked(replies []byte, first bool, answered int) time.Duration {
	asked := h.b.isAsking() && answered <= 1
	if asked {
		replies = bytes.TrimPrefix(replies, okReply)
	}
	t := h.client.Topology
	switch {
	case !first && !asked, !refusedByCluster(replies), t == nil || !t.Moves():
		return 0
	case asked:
		return 3 * refusalPause
	case t.Reading() != nil && h.b.effect == command.Read && (bytes.HasPrefix(replies, slotless) || t.IsReplica(h.node.Addr)):
		return 0
	}
	return refusalPause
}

// tryAgain begins what a node answers that has some keys of a command and not others, while
// their slot moves.
var tryAgain = []byte("-TRYAGAIN ")

// isMixedLocked reports whether the batch is a pipeline of a cluster's client that doesn't only
// read. If its first command is refused so go-redis sends all of it again, MaxRedirects times.
func (h *handle) isMixedLocked() bool {
	t := h.client.Topology
	return t != nil && t.Moves() && h.b.sticks()
}

// masterDown begins what a replica answers that has lost its primary, and doesn't serve what it
// had of it (replica-serve-stale-data no).
var masterDown = []byte("-MASTERDOWN ")

// onlyReadsLocked reports whether the batch does nothing else, and is of a client that reads from
// replicas.
func (h *handle) onlyReadsLocked() bool {
	t := h.client.Topology
	return t != nil && t.Reading() != nil && h.b.effect == command.Read
}

// leaveStaleLocked notes that a replica has refused to read. A command that came alone goes to the
// primary, which may be well, or have an heir for which it waits there: go-redis would ask the
// same replica again until its tries are used up. A pipeline goes there when it is tried again,
// since the replica turns it away. It returns how many bytes of p there are then.
func (h *handle) leaveStaleLocked(p []byte, n int, lone bool) int {
	h.node.refusedReads.Store(time.Now().UnixNano())
	primary := h.client.Topology.PrimaryOf(h.node.Addr)
	if primary == "" || !lone {
		return n
	}
	return putMoved(p, n, h.moved(plain, 0, primary))
}

// putMoved puts MOVED in the place of the line that p[:n] begins with, which go-redis follows with
// that command alone, be it to the same address. It returns how many bytes of p there are then.
// A line that hasn't come as a whole, or is shorter, stays.
func putMoved(p []byte, n int, moved string) int {
	end := bytes.IndexByte(p[:n], '\n') + 1
	if end < len(moved) {
		return n
	}
	return copy(p, moved) + copy(p[len(moved):], p[end:n])
}

// holdBack lets time pass before p[:n], a refusal, is passed on. Its connection has gone back,
// unless the handle keeps it or is owed more there: a pool of few would be full of those that
// wait. Where the caller's context can be asked for it is, and the pause ends with it.
func (h *handle) holdBack(p []byte, n int, pause time.Duration) (int, error) {
	if h.readBy.fix(); !h.readBy.IsZero() {
		pause = min(pause, time.Until(h.readBy.Time)/2)
	}
	until := time.Now().Add(pause)
	if !h.client.Courses.answer() || h.client.Tracks || !h.readsPushesLocked() || len(p) < len(askForContext) {
		_ = h.wait(nil, until)
		return n, nil
	}
	h.b.refusal = &refusal{replies: bytes.Clone(p[:n]), until: until}
	return copy(p, askForContext), nil
}

// passOn passes the refusal on, whatever has happened meanwhile.
func (h *handle) passOn() {
	r := h.b.refusal
	var over <-chan struct{}
	if r.of != nil {
		over = r.of.Done()
	}
	_ = h.wait(over, r.until)
	h.b.out = append(h.b.out, r.replies...)
	h.b.refusal = nil
}
