package pooler

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/everpool/everpool/internal/resp"
)

// Step is a command that set state on a connection, and the server's reply.
type Step struct {
	Request []byte // one complete RESP command
	Reply   []byte // one complete RESP reply, not an error

	// Optional steps may be refused: the connection serves as well without
	// (CLIENT SETINFO).
	Optional bool

	// Renew makes the request for each new connection, where its credentials
	// change; nil: Request is sent. It is called on a goroutine of the pool's, has
	// until DialTimeout, and must return when ctx is done: the dial and Close wait
	// for it. If it fails, the requests that wait for the connection fail with
	// ErrCredentials.
	Renew func(ctx context.Context) ([]byte, error)
}

// Session is the state of a connection: the ordered commands that made it. A
// connection of one session never serves a request of another. Sessions are
// compared by identity, so whoever makes them makes one for each state.
//
// A Session is immutable but for two things: it dies when the server refuses to take it
// up again (see SetFixed), and it may be vacant. It holds credentials, so none of its printed forms
// shows its commands. Safe for concurrent use.
type Session struct {
	steps  []Step
	fixed  int // of the steps
	dead   atomic.Bool
	vacant atomic.Bool
}

// NewSession returns the session that the steps make. Without steps it is the
// state of a fresh connection. The steps are not copied and must not change.
func NewSession(steps ...Step) *Session { return &Session{steps: steps} }

// SetFixed says that all who enter the session do so by its first n commands, or by all
// that it has if these are fewer: where the server refuses one of them to a new connection,
// another handshake would hear the same. So the session doesn't die of it while connections
// serve in it; the requests that wait for a new one fail with ErrRefused. It is called
// before the session is used.
func (s *Session) SetFixed(n int) { s.fixed = n }

// SetVacant says whether nobody is in the session just now. While that is so, and Renew
// makes some of its commands, connections are opened for requests only, not to be kept
// or to probe the node: what Renew asks may be gone. A new Session isn't vacant.
func (s *Session) SetVacant(vacant bool) { s.vacant.Store(vacant) }

// abandoned reports whether no connection is to be opened but for a request.
func (s *Session) abandoned() bool { return s.Dead() || s.vacant.Load() && s.renews() }

// Dead reports whether the server has refused the session.
func (s *Session) Dead() bool { return s.dead.Load() }

// String says how many commands made the session, not which.
func (s *Session) String() string { return fmt.Sprintf("session of %d commands", len(s.steps)) }

// GoString is String, so that %#v shows no credentials either.
func (s *Session) GoString() string { return s.String() }

// refusedError is a replay that the server answered otherwise than the first
// time.
type refusedError struct {
	reply string
	step  int // which command, from 0
}

func (e refusedError) Error() string { return e.reply }

// renewError: the commands of a session could not be made. It says nothing of the
// node, and nothing of connections that are in the session already.
type renewError struct{ err error }

func (e renewError) Error() string { return "the credentials provider: " + e.err.Error() }

// renews reports whether commands of the session are made anew for each connection.
func (s *Session) renews() bool {
	return slices.ContainsFunc(s.steps, func(st Step) bool { return st.Renew != nil })
}

// replay returns all commands of the session.
func (s *Session) replay(ctx context.Context) (all []byte, err error) {
	for _, st := range s.steps {
		request := st.Request
		if st.Renew != nil {
			if request, err = st.Renew(ctx); err != nil {
				return nil, renewError{err}
			}
		}
		all = append(all, request...)
	}
	return all, nil
}

// unreadyError is an answer of a server that can't serve just now.
type unreadyError struct{ class, says string }

func (e unreadyError) Error() string { return cmp.Or(e.says, e.class+" the server is not ready") }

func isUnready(err error) bool {
	_, ok := errors.AsType[unreadyError](err)
	return ok
}

// bring takes a fresh connection to the session s: all commands in one write,
// then their replies, each of the kind that it was the first time.
func (s *Session) bring(c *Conn, replay []byte, deadline time.Time) error {
	if len(s.steps) == 0 {
		c.session = s
		return nil
	}
	c.Owe(len(s.steps))
	if _, err := c.Send(replay, deadline); err != nil {
		return err
	}
	var refused error
	for i, st := range s.steps {
		kind, head, err := c.readHead(deadline)
		if err != nil {
			if refused != nil {
				return refused // it said why before it hung up
			}
			return err
		}
		if kind == replyKind(st.Reply) || st.Optional || refused != nil {
			continue
		}
		// Only the class of a refusal is kept: its text may repeat what was
		// sent.
		if refused = condition(head, c.saysWithout(replay)); refused == nil {
			refused = refusedError{errorClass(head), i}
		}
	}
	if refused != nil {
		return refused
	}
	c.session = s
	return nil
}

// replyKind is the type byte of a reply, past an attribute.
func replyKind(reply []byte) byte {
	var sc resp.ReplyScanner
	_, _, _ = sc.Scan(reply)
	return sc.Kind()
}

// errorClass returns the first word of an error reply, as "WRONGPASS".
func errorClass(head []byte) string {
	if len(head) == 0 || head[0] != '-' {
		return "a reply of another kind than at first"
	}
	word, _, _ := bytes.Cut(head[1:], []byte(" "))
	word = bytes.TrimRight(word, "\r\n")
	if len(word) > 32 {
		word = word[:32]
	}
	return string(word)
}

var ping = []byte("*1\r\n$4\r\nPING\r\n")

// ping asks the server whether it serves: it answers, and not that it is still
// loading or cut off from its master. One that is busy with a script serves.
func (c *Conn) ping(deadline time.Time) error {
	c.Owe(1)
	if _, err := c.Send(ping, deadline); err != nil {
		return err
	}
	kind, head, err := c.readHead(deadline)
	if err != nil {
		return err
	}
	if kind != '-' || c.isBusy() {
		return nil
	}
	return condition(head, c.saysWithout(nil)) // NOAUTH, NOPERM: it lives
}

// classBusy is the class of the errors of a server that a script keeps busy.
const classBusy = "BUSY"

// isBusy reports whether the last reply said that a script keeps the server busy.
func (c *Conn) isBusy() bool { return errorClass(c.complaint()) == classBusy }

var errMaxClients = errors.New("the server has its max number of clients")

// saysWithout is the whole of the last error reply, or "" if it has more than is remembered, or
// anything of what was sent, which may be secret.
func (c *Conn) saysWithout(sent []byte) string {
	says := c.complaint()
	if len(says) == 0 || len(says) == errorHead {
		return ""
	}
	for piece := range bytes.SplitSeq(sent, []byte("\r\n")) {
		if len(piece) > 0 && bytes.Contains(says, piece) {
			return ""
		}
	}
	return string(says[1:])
}

// condition returns what an error reply says of the server's condition, or nil if it
// is about the session.
func condition(head []byte, says string) error {
	switch class := errorClass(head); class {
	case "LOADING", "MASTERDOWN", "READONLY", classBusy, "CLUSTERDOWN", "TRYAGAIN", "OOM":
		return unreadyError{class, says}
	}
	if bytes.Contains(head, []byte("max number of clients")) {
		return errMaxClients
	}
	return nil
}

// readHead reads one reply and returns its kind and its first bytes, at most
// 64. They are valid until the next read.
func (c *Conn) readHead(deadline time.Time) (kind byte, head []byte, err error) {
	if c.in.scratch == nil {
		c.in.scratch = make([]byte, 64+512)
	}
	head, chunk := c.in.scratch[:0:64], c.in.scratch[64:]
	for {
		n, done, err := c.Receive(chunk, deadline)
		head = append(head, chunk[:min(n, 64-len(head))]...)
		if err != nil {
			return 0, nil, err
		}
		if done {
			return c.in.scan.Kind(), head, nil
		}
	}
}
