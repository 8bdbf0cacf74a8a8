package handle

import (
	"bytes"
	"context"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/pooler"
)

// clear asks the server about a command that isn't in the table, once for
// each node: one that neither blocks nor subscribes needs no connection of its
// own. If the server can't be asked just now, the command pins.
func (h *handle) clear(f command.Facts, buf []byte) command.Facts {
	name := commandName(buf, h.b.scan.Args())
	if known, ok := h.shake.memory.Verdict(name); ok {
		return known
	}
	if h.lease != nil {
		return f // waiting for another while holding one could be for ever
	}
	by := h.writeByLocked()
	c, err := h.get(pooler.Request{Session: h.shake.in.Pool, Deadline: by, WaitTimeout: h.client.Wait, Name: "COMMAND INFO"})
	if err != nil {
		return f // the command itself will meet the same and say so
	}
	var reply []byte
	h.outside(func() { reply, err = h.ask(c, name, by) })
	if err != nil || len(reply) == 0 || reply[0] == '-' {
		return f
	}
	f = judge(f, reply)
	h.shake.memory.SetVerdict(name, f)
	return f
}

// ask asks about a command on a lease of its own, and gives the lease back. It is
// called without the lock.
func (h *handle) ask(c *pooler.Conn, name string, by time.Time) (reply []byte, err error) {
	stop := context.AfterFunc(&h.caller, func() { c.InterruptSend(); c.InterruptReceive() })
	c.Owe(1)
	_, err = c.Send(resp.AppendCommand(nil, "COMMAND", "INFO", name), by)
	for done := false; err == nil && !done; {
		var n int
		var chunk [512]byte
		n, done, err = c.Receive(chunk[:], by)
		if len(reply) <= session.MaxReply {
			reply = append(reply, chunk[:n]...)
		}
	}
	stop()
	outcome := pooler.Answered
	if err != nil {
		outcome = pooler.Abandoned
	}
	h.node.Pool.Put(c, outcome)
	return reply, err
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
// array of one: nil, or a description whose flags and categories are simple strings.
// What scripts may not run, and what belongs to connections, may change the one that
// it runs on for everybody else there.
func judge(f command.Facts, reply []byte) command.Facts {
	flag := func(name string) bool { return bytes.Contains(reply, []byte("\n+"+name+"\r\n")) }
	described := bytes.HasPrefix(reply, []byte("*1\r\n*")) && !bytes.HasPrefix(reply, []byte("*1\r\n*-1"))
	if !described || flag("blocking") || flag("pubsub") || flag("noscript") || flag("@connection") || len(reply) > session.MaxReply {
		return f
	}
	f.Class, f.Pin = command.Shareable, command.PinNone
	if flag("readonly") {
		f.Effect = command.Read
	}
	return f
}
