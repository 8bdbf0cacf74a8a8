package handle

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// kind says what has to be done when a command is answered.
type kind uint8

const (
	plain    kind = iota
	session_      // a command that sets session state
	pinning       // a command that pins, unless it is refused
	multi
	exec
	discard
	watch
	unwatch
	asking
	local // answered by the handle
)

// run is one command, or several plain ones in a row.
type run struct {
	info       *command.Info
	n          int32 // commands; one reply each
	start, end int32 // in handle.req, while it is there
	first      int32 // end of the first command
	kind       kind
	effect     command.Effect
	pin        command.Pin
	blocking   bool
	afterWrite bool
	share      bool // may ride a shared connection
	slow       bool // may take long while the server answers others
	slots      command.Slots
	frame      []byte // the command, where its reply is remembered
}

// newRun makes a run of the complete command in req[start:end].
func newRun(f *command.Facts, start, end int) run {
	return run{
		n: 1, start: int32(start), end: int32(end), first: int32(end),
		kind: kindOf(f), effect: f.Effect, info: f.Info, slots: f.Slots, pin: f.Pin,
		blocking: f.Blocking, afterWrite: afterWrite(f), share: mayShare(f), slow: isSlow(f),
	}
}

// extend takes the command in req[start:end] into a run of plain ones, if it is one
// too, and reports whether it has.
func (r *run) extend(f *command.Facts, start, end int) bool {
	if r.kind != plain || r.afterWrite || int(r.end) != start || afterWrite(f) || kindOf(f) != plain {
		return false
	}
	r.n++
	r.end = int32(end)
	r.effect = max(r.effect, f.Effect)
	r.blocking = r.blocking || f.Blocking
	r.share = r.share && mayShare(f)
	r.slow = r.slow || isSlow(f)
	return true
}

func afterWrite(f *command.Facts) bool { return f.Info != nil && f.Info.AfterWrite }

// asksEarlier reports whether one of the commands, as WAIT, asks about what was written
// before all of them.
func asksEarlier(pieces ...[]run) bool {
	for _, runs := range pieces {
		for i := range runs {
			if r := &runs[i]; r.afterWrite || r.effect != command.Read {
				return r.afterWrite
			}
		}
	}
	return false
}

// askedFor is how many writes of a client go on connections of their own after it has asked
// about one.
const askedFor = 1024

// asks notes that the client asks about an earlier write.
func (c *Client) asks() { atomic.StoreInt32(&c.asked, askedFor) }

// mayAsk reports whether the commands had better not share a connection, since the client may
// ask about them: its question goes on the same connection, which nobody shares then for as long
// as the server holds the answer back. Each time that it does is one of the writes of askedFor.
func (c *Client) mayAsk(runs []run) bool {
	return atomic.LoadInt32(&c.asked) > 0 && slices.ContainsFunc(runs, writes) && atomic.AddInt32(&c.asked, -1) >= 0
}

func writes(r run) bool { return r.effect != command.Read }

func isSlow(f *command.Facts) bool { return f.Info != nil && f.Info.Module }

// mayShare reports whether the command may ride a shared connection.
func mayShare(f *command.Facts) bool {
	return f.Class == command.Shareable && !f.Blocking && !afterWrite(f)
}

func kindOf(f *command.Facts) kind {
	switch {
	case f.Class == command.Session:
		return session_
	case f.Class == command.Local || f.Pin == command.PinReset:
		return local
	case f.Pin == command.PinMulti:
		return multi
	case f.Pin == command.PinWatch:
		return watch
	case f.Class == command.Pinning:
		return pinning
	case f.Info == nil:
		return plain
	case f.Info.Tx == command.TxExec:
		return exec
	case f.Info.Tx == command.TxDiscard:
		return discard
	case f.Info.Tx == command.TxUnwatch:
		return unwatch
	case f.Info.Asking:
		return asking
	}
	return plain
}

// remembered reports whether the reply to the command is kept: for a session
// command, and for one whose refusal as unknown needn't be asked for again.
func (r *run) remembered() bool {
	return r.kind == session_ || r.kind == pinning && r.pin == command.PinMaint
}

// name is the command's, for errors and statistics.
func (r *run) name() string {
	if r.info == nil {
		return "unknown command"
	}
	return r.info.Name
}

// ofMembers reports whether go-redis sends the command by itself, to find out about
// members: if one isn't there it asks another.
func (r *run) ofMembers() bool {
	name := r.name()
	return r.kind == session_ || name == "COMMAND" || strings.HasPrefix(name, "CLUSTER")
}

// mode is what the command makes of its connection.
func (r *run) mode() pooler.Mode {
	if r.kind != pinning {
		return pooler.Counted
	}
	switch r.pin {
	case command.PinPubSub, command.PinMonitor, command.PinReply, command.PinSync, command.PinScriptDebug:
		return pooler.Stream
	}
	return pooler.Pushes
}
