package driver

import (
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

// newRun classifies a complete command in req[start:end].
func newRun(f command.Facts, start, end int) run {
	r := run{n: 1, start: int32(start), end: int32(end), first: int32(end), effect: f.Effect, blocking: f.Blocking, info: f.Info, slots: f.Slots, pin: f.Pin}
	if f.Info != nil {
		r.afterWrite, r.slow = f.Info.AfterWrite, f.Info.Module
	}
	r.share = f.Class == command.Shareable && !r.blocking && !r.afterWrite
	switch {
	case f.Class == command.Session:
		r.kind = session_
	case f.Class == command.Local || f.Pin == command.PinReset:
		r.kind = local
	case f.Pin == command.PinMulti:
		r.kind = multi
	case f.Pin == command.PinWatch:
		r.kind = watch
	case f.Class == command.Pinning:
		r.kind = pinning
	case f.Info == nil:
	case f.Info.Tx == command.TxExec:
		r.kind = exec
	case f.Info.Tx == command.TxDiscard:
		r.kind = discard
	case f.Info.Tx == command.TxUnwatch:
		r.kind = unwatch
	case f.Info.Asking:
		r.kind = asking
	}
	return r
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

// appendRun adds a command to a plan; plain ones in a row become one run.
func appendRun(plan []run, r run) []run {
	if n := len(plan); n > 0 && r.kind == plain && plan[n-1].kind == plain && plan[n-1].end == r.start &&
		!r.afterWrite && !plan[n-1].afterWrite {
		last := &plan[n-1]
		last.n++
		last.end = r.end
		last.effect = max(last.effect, r.effect)
		last.blocking = last.blocking || r.blocking
		last.share = last.share && r.share
		last.slow = last.slow || r.slow
		return plan
	}
	return append(plan, r)
}
