package hooks

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Kind says what an operation consists of.
type Kind uint8

// The kinds.
const (
	Single      Kind = iota // one command
	Pipeline                // a batch of two or more
	Transaction             // a batch in MULTI and EXEC
)

// String returns "command", "pipeline" or "transaction".
func (k Kind) String() string {
	return word(k, "command", "pipeline", "transaction")
}

// Operation is one call of the client as its user has made it: a command, or a
// batch; go-redis's retries, and a cluster's redirections, are part of it. A pipeline
// of one command is that command.
//
// It is given to the observers one after another, on the caller's goroutine, and
// belongs to the hook: an observer must neither change it nor keep it, or what it
// refers to, beyond the call.
type Operation struct {
	Kind Kind
	// Name is that of the command, "PIPELINE GET" or "MULTI GET" for a batch of
	// one sort of command, "PIPELINE" or "MULTI" for others. It is bounded by the
	// command table.
	Name string
	// Command is that of a single command, or of all commands of a batch; nil if
	// they differ.
	Command *Command
	// Cmds are the commands, without the MULTI and the EXEC of a transaction.
	Cmds []redis.Cmder
	// Target is what the client was made for.
	Target *Target
	Start  time.Time

	// From here on what is known at the end.

	Duration time.Duration
	// Outcome of a batch is Error if any command has failed, else Miss if any has
	// missed.
	Outcome Outcome
	// Err is nil unless Outcome is Error. Of a batch it is the first one.
	Err error
	// ErrorType is Err's class, see the function of that name; "" without one.
	ErrorType string

	peer   atomic.Pointer[Target]
	kept   *kept  // nil if no hook has made the operation
	blocks answer // of Blocking
}

// answer is that to a question which isn't asked of every operation.
type answer uint8

const (
	notAsked answer = iota
	no
	yes
)

// Blocking reports whether the operation may take as long as its arguments say,
// which says nothing about the server: it is a command that does (see
// [Command.Blocks]), or a pipeline with one. In a transaction none does.
func (op *Operation) Blocking() bool {
	if op.blocks == notAsked {
		op.blocks = no
		if op.anyBlocks() {
			op.blocks = yes
		}
	}
	return op.blocks == yes
}

func (op *Operation) anyBlocks() bool {
	if op.Kind == Transaction || op.Command != nil && !op.Command.mayBlock {
		return false
	}
	for _, cmd := range op.Cmds {
		c := op.Command
		if c == nil {
			c = CommandOf(cmd)
		}
		if c.Blocks(cmd) {
			return true
		}
	}
	return false
}

// Reached reports whether it is certain that a server got the operation: it has
// answered, or the connection was lost after the operation was sent. Of a timeout
// that isn't known, nor of a connection that has failed: it may have been dialed.
func (op *Operation) Reached() bool {
	return reached(op.Outcome, op.ErrorType)
}

func reached(outcome Outcome, errorType string) bool {
	return outcome != Error || errorType == ErrorTxFailed || errorType == ErrorUnknownOutcome || IsReply(errorType)
}

// Peer is the node that answered last: of a cluster or a ring whichever the last
// attempt went to, nil if none was made; otherwise Target.
func (op *Operation) Peer() *Target {
	if p := op.peer.Load(); p != nil {
		return p
	}
	if op.Target.Addr == "" {
		return nil
	}
	return op.Target
}

// Target is the server, or the group of servers, that a client was made for.
type Target struct {
	// Network is "tcp" or "unix"; "" if the hook was added by AddHook: then nothing is
	// known of the client.
	Network string
	// Addr is host:port or a path, as it was configured but for what [SafeAddr]
	// leaves out; "" for a cluster, a ring and what a sentinel finds, of which only
	// the peers have addresses.
	Addr string
	Host string // of Addr; a unix socket's path
	Port int    // of Addr; 0 for a unix socket
	DB   int    // that the client was made for; a SELECT of the user's changes nothing here
}

// newTarget takes an address apart.
func newTarget(network, addr string, db int) *Target {
	t := &Target{Network: network, Addr: addr, Host: addr, DB: db}
	if network == "" {
		t.Network = "tcp"
	}
	if t.Network == "unix" && !strings.Contains(addr, "://") {
		return t // any path, relative ones too
	}
	addr = SafeAddr(addr)
	t.Addr, t.Host = addr, addr
	if host, port, err := net.SplitHostPort(addr); err == nil {
		t.Host = host
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			t.Port = int(n)
		}
	}
	return t
}

// IsAddress reports whether the host is an address, as one that answers has: an IP
// address or the path of a unix socket, and no name.
func (t *Target) IsAddress() bool {
	if t.Network == "unix" {
		return t.Host != ""
	}
	_, err := netip.ParseAddr(t.Host)
	return err == nil
}

// beginCommand fills in what is known at the beginning. It reports false for a
// handshake, which is no operation.
func (op *Operation) beginCommand(cmds []redis.Cmder, to *Target) bool {
	c := CommandOf(cmds[0])
	if c.handshake {
		return false
	}
	op.Kind, op.Name, op.Command, op.Cmds, op.Target = Single, c.Name, c, cmds, to
	return true
}

// beginBatch is beginCommand for a batch.
func (op *Operation) beginBatch(cmds []redis.Cmder, to *Target) bool {
	op.Kind, op.Target = Pipeline, to
	first := CommandOf(cmds[0])
	if len(cmds) == 1 {
		return op.beginCommand(cmds, to)
	}
	if first.isMulti() && CommandOf(cmds[len(cmds)-1]).isExec() {
		op.Kind = Transaction
		if cmds = cmds[1 : len(cmds)-1]; len(cmds) > 0 {
			first = CommandOf(cmds[0])
		}
	}
	op.Cmds = cmds
	op.Command = common(first, cmds)
	switch {
	case op.Kind == Pipeline && first.handshake && allHandshake(cmds):
		return false
	case op.Command == nil && op.Kind == Pipeline:
		op.Name = "PIPELINE"
	case op.Command == nil:
		op.Name = "MULTI"
	case op.Kind == Pipeline:
		op.Name = op.Command.Pipeline
	default:
		op.Name = op.Command.Transaction
	}
	return true
}

// common is the command of all of a batch, the first of which is given, or nil.
func common(first *Command, cmds []redis.Cmder) *Command {
	if len(cmds) == 0 {
		return nil
	}
	name := cmds[0].Name()
	// The first word alone is enough for most.
	more := !first.Known() || first.info.Container || strings.Contains(first.Name, " ")
	for _, cmd := range cmds[1:] {
		if (more || cmd.Name() != name) && CommandOf(cmd) != first {
			return nil
		}
	}
	return first
}

func allHandshake(cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		if !CommandOf(cmd).handshake {
			return false
		}
	}
	return true
}

// end fills in the rest. err is what go-redis returned.
func (op *Operation) end(err error) {
	op.Duration = time.Since(op.Start)
	if err == nil {
		return
	}
	if op.Outcome, op.ErrorType = Classify(err); op.Outcome == Miss && op.Kind != Single {
		// It is the first of all commands: others may have failed.
		if failed := firstError(op.Cmds); failed != nil {
			err = failed
			op.Outcome, op.ErrorType = Classify(err)
		}
	}
	if op.Outcome == Error {
		op.Err = err
	}
}

// outcomeOf is that of a batch whose call had the given one, which isn't Error.
func outcomeOf(call Outcome, cmds []redis.Cmder) (Outcome, string) {
	if err := firstError(cmds); err != nil {
		return Error, ErrorType(err)
	}
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			return Miss, ""
		}
	}
	return call, ""
}

// firstError is the first error among the commands that isn't redis.Nil, or nil.
func firstError(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !isMiss(err) {
			return err
		}
	}
	return nil
}
