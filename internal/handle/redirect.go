package handle

import (
	"cmp"
	"fmt"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/hashslot"
	"github.com/everpool/everpool/internal/resp"
)

// tellOrRedirect ends the handle with what its caller is told, or has the batch go
// where it belongs.
func (h *handle) tellOrRedirect(l loss, err error) error {
	f := l.decide(h.client.Retry)
	if f != redirect {
		return h.tell(f, l, err)
	}
	h.redirect()
	return nil
}

// mayMoveLocked reports whether what isn't answered of the batch can be sent to another
// node: its client follows MOVED, all of it is here, it has a key, and it may run there
// though some of it may have run here.
func (h *handle) mayMoveLocked(ran bool) bool {
	b := &h.b
	switch t := h.client.Topology; {
	case t == nil, !t.Moves(), !t.Viewed(), b.streamed, b.partial, h.keepsLocked():
		return false
	case b.unanswered() && (!b.again() || len(b.plan) > 0 || ran && b.effect != command.Read):
		return false
	}
	runs := b.plan
	if b.unanswered() {
		runs = b.pending()
	}
	for i := range runs {
		if r := &runs[i]; r.kind == session_ || r.kind == local || r.kind == pinning && r.pin != command.PinUnknown {
			return false
		}
	}
	return b.slotOf(runs) >= 0
}

// gatherWhole is how large a request may be that is gathered while its node is ill. What is
// larger streams through, and is told that it belongs elsewhere once the node is away.
const gatherWhole = 16 << 20

// gathersLocked reports whether the rest of a large request is to be gathered: nothing of it
// was sent, and its node is ill. Where it belongs is known by its keys, which may come last,
// and it can be answered MOVED only as a whole.
func (h *handle) gathersLocked() bool {
	b, t := &h.b, h.client.Topology
	return t != nil && t.Moves() && h.lease == nil && !h.ride.under && !b.partial && !b.streamed &&
		!h.node.Pool.Answers() && int64(len(b.req))+b.scan.BodyRemaining() <= gatherWhole
}

// redirect answers the batch as a node does that serves its slots no more: go-redis
// asks the owners at once. A transaction is refused as a whole, to its EXEC, which may
// come later.
func (h *handle) redirect() {
	b := &h.b
	t := h.client.Topology
	runs := b.plan
	if b.unanswered() {
		runs = b.pending()
		h.ride.under = false
	}
	slot, reads := b.slotOf(runs), h.readsLocked(runs)
	for i := range runs {
		r := &runs[i]
		var sc resp.RequestScanner
		req := b.bytesOf(r)
		for n := next(&sc, req); n > 0; n = next(&sc, req) {
			if own := keySlot(req[:n], sc.Args()); own >= 0 {
				slot = own
			}
			req = req[n:]
			owner := t.Owner(slot)
			if reads {
				owner = cmp.Or(t.StandIn(h.node.Addr, slot), owner)
			}
			b.out = append(b.out, h.moved(r.kind, slot, cmp.Or(owner, h.node.Addr))...)
		}
	}
	if b.unanswered() {
		b.answered = len(b.owed)
	} else {
		b.plan = b.plan[:0]
		b.sent = b.scanned
	}
	h.toRead.open()
}

// moved is the answer to a command of a batch that is sent elsewhere.
func (h *handle) moved(k kind, slot int, owner string) string {
	switch k {
	case multi:
		h.b.redirected = true
		return "+OK\r\n"
	case exec:
		if h.b.redirected {
			h.b.redirected = false
			return "-EXECABORT Transaction discarded because of previous errors.\r\n"
		}
	case discard, unwatch, asking:
		h.b.redirected = h.b.redirected && k != discard
		return "+OK\r\n"
	}
	return fmt.Sprintf("-MOVED %d %s\r\n", max(slot, 0), owner)
}

// slotOf returns the slot of the first key among the commands, or -1. What subscribes
// belongs to no slot: it can't be moved.
func (b *batch) slotOf(runs []run) int {
	for i := range runs {
		if subscribes(runs[i]) {
			return -1
		}
		var sc resp.RequestScanner
		req := b.bytesOf(&runs[i])
		for n := next(&sc, req); n > 0; n = next(&sc, req) {
			if slot := keySlot(req[:n], sc.Args()); slot >= 0 {
				return slot
			}
			req = req[n:]
		}
	}
	return -1
}

// slotOfRest returns the slot of the first key in what is here of an unfinished command, or -1.
func (b *batch) slotOfRest() int {
	if b.scanned == len(b.req) || b.scan.Seen() < 2 {
		return -1
	}
	return keySlot(b.req[b.scanned:], b.scan.Args())
}

// bytesOf are those of a run that is in the request still.
func (b *batch) bytesOf(r *run) []byte {
	if int(r.end) > len(b.req) {
		return nil
	}
	return b.req[r.start:r.end]
}

// next scans the command that req begins with, and returns its length: 0 after the last one.
func next(sc *resp.RequestScanner, req []byte) int {
	if n, done, err := sc.Next(req); done && err == nil {
		return n
	}
	return 0
}

// keySlot returns the slot of a command's first key, or -1. Of a command that isn't in
// the table the first argument is taken for its key, as go-redis does.
func keySlot(req []byte, args []resp.Span) int {
	at := func(i int) []byte { return req[args[i].Start:args[i].End] }
	var sub []byte
	if len(args) > 1 {
		sub = at(1)
	}
	info := command.Lookup(at(0), sub)
	if info == nil {
		if len(args) < 2 {
			return -1
		}
		return hashslot.Of(sub)
	}
	var buf [4]command.Key
	keys := info.AppendKeysFunc(buf[:0], len(args), at)
	if len(keys) == 0 || keys[0].Index >= len(args) {
		return -1
	}
	return hashslot.Of(at(keys[0].Index))
}
