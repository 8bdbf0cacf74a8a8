package driver

import (
	"bytes"
	"errors"
	"os"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/pooler"
)

// clearLocked asks the server about a command that isn't in the table, once for
// each node: one that neither blocks nor subscribes needs no connection of its
// own. If the server can't be asked just now, the command pins.
func (h *handle) clearLocked(f command.Facts, buf []byte) command.Facts {
	name := commandName(buf, h.scan.Args())
	if known, ok := h.node.memory.verdict(name); ok {
		return known
	}
	if h.lease != nil || len(h.plan) > 0 || h.answered < len(h.owed) {
		return f
	}
	req := pooler.Request{Session: h.session.pool, Deadline: h.writeBy, Name: "COMMAND INFO"}
	if h.acquireLocked(req) != nil {
		return f // the command itself will meet the same and say so
	}
	c, by := h.lease, h.writeBy
	var reply []byte
	h.sending, h.readingC = true, true
	h.mu.Unlock()
	c.Owe(1)
	_, err := c.Send(resp.AppendCommand(nil, "COMMAND", "INFO", name), by)
	for done := false; err == nil && !done; {
		var n int
		var chunk [512]byte
		n, done, err = c.Receive(chunk[:], by)
		if errors.Is(err, pooler.ErrInterrupted) && h.ctx.Err() == nil {
			err = nil // another read deadline, which is not for this
		}
		if len(reply) <= maxReply {
			reply = append(reply, chunk[:n]...)
		}
	}
	h.mu.Lock()
	h.sending, h.readingC = false, false
	if h.usableLocked() != nil {
		h.quitLocked()
		return f
	}
	if err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			c.Fail(pooler.CloseRead, err)
		}
		h.lease = nil
		h.mu.Unlock()
		h.node.pool.Put(c, pooler.Failed)
		h.mu.Lock()
		return f
	}
	f = judge(f, reply)
	h.node.memory.setVerdict(name, f)
	return f
}

// commandName is the name as COMMAND INFO wants it: "get", "client|id".
func commandName(buf []byte, args []resp.Span) string {
	arg := func(i int) []byte { return bytes.ToLower(buf[args[i].Start:args[i].End]) }
	name := string(arg(0))
	if len(args) > 1 && command.IsContainer(arg(0)) {
		name += "|" + string(arg(1))
	}
	return name
}

// judge makes of COMMAND INFO's reply what the command needs. The reply is an
// array of one: nil, or a description whose flags are simple strings.
func judge(f command.Facts, reply []byte) command.Facts {
	flag := func(name string) bool { return bytes.Contains(reply, []byte("\n+"+name+"\r\n")) }
	described := bytes.HasPrefix(reply, []byte("*1\r\n*")) && !bytes.HasPrefix(reply, []byte("*1\r\n*-1"))
	if !described || flag("blocking") || flag("pubsub") || len(reply) > maxReply {
		return f
	}
	f.Class, f.Pin = command.Shareable, command.PinNone
	if flag("readonly") {
		f.Effect = command.Read
	}
	return f
}

// maxVerdicts bounds the commands of which a node remembers what they need.
const maxVerdicts = 256

func (m *memory) verdict(name string) (command.Facts, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.verdicts[name]
	return f, ok
}

func (m *memory) setVerdict(name string, f command.Facts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.verdicts) < maxVerdicts && len(name) <= 64 {
		m.verdicts[name] = f
	}
}
