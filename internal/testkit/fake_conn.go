package testkit

import (
	"bufio"
	"errors"
	"net"
	"slices"
	"sync"
)

// maxQueued is how many commands of a connection may wait for execution
// before no more are read: the fake has back-pressure, as a server has.
const maxQueued = 1024

// FakeConn is one connection as the fake sees it. Three goroutines serve it:
// one reads, so that a client that goes away is noticed while its BLPOP
// blocks; one executes; one writes, so that a client that doesn't read holds
// up nobody but itself.
type FakeConn struct {
	// ID is the connection's number, from 1: what CLIENT ID answers.
	ID int64

	f    *Fake
	conn *MemConn

	// Guarded by f.mu.
	queue      [][]string
	protoErr   string // what was wrong behind the queue; answered, then closed
	eof        bool   // the client sends no more
	out        []byte
	closing    bool // close when out is written
	dead       bool
	unaccepted bool       // dialed while frozen
	work       *sync.Cond // queue, eof, dead
	output     *sync.Cond // out, closing, dead
	swallow    bool
	cutReply   int // -1: no cut
	session    fakeSession
}

// SessionInfo is the state that a connection's commands have set.
type SessionInfo struct {
	DB         int
	User       string // "" until authenticated
	Proto      int
	Name       string
	LibName    string
	LibVer     string
	ReadOnly   bool
	Tracking   bool
	InMulti    bool
	Watching   bool
	Subscribed int // channels and patterns
}

func newFakeConn(f *Fake, id int64, conn *MemConn) *FakeConn {
	c := &FakeConn{ID: id, f: f, conn: conn, cutReply: -1}
	c.work = sync.NewCond(&f.mu)
	c.output = sync.NewCond(&f.mu)
	c.resetSessionLocked()
	return c
}

// RemoteAddr returns the client's address.
func (c *FakeConn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// Push sends bytes to the client that it didn't ask for.
func (c *FakeConn) Push(raw []byte) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.sendLocked(raw)
}

// CloseNow closes the connection; replies that aren't written yet are lost.
func (c *FakeConn) CloseNow() {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.endLocked(false)
}

// ResetNow resets the connection: the client gets ECONNRESET.
func (c *FakeConn) ResetNow() {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.endLocked(true)
}

// CloseAfterReplies closes the connection when what is queued for the client
// has been written.
func (c *FakeConn) CloseAfterReplies() {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.finishLocked()
}

// SwallowReplies makes the replies of this connection disappear: commands are
// still executed, and Push still works.
func (c *FakeConn) SwallowReplies(on bool) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.swallow = on
}

// CutReply is [Fake.CutReply] for the next reply of this connection.
func (c *FakeConn) CutReply(after int) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.cutReply = after
}

// Alive says whether the connection is still open.
func (c *FakeConn) Alive() bool { return locked(&c.f.mu, func() bool { return !c.dead }) }

// Session returns the state that the connection's commands have set.
func (c *FakeConn) Session() SessionInfo {
	return locked(&c.f.mu, func() SessionInfo {
		s := c.session.SessionInfo
		s.InMulti, s.Watching = c.session.multi, len(c.session.watched) > 0
		s.Subscribed = len(c.session.channels) + len(c.session.patterns)
		return s
	})
}

// readLoop parses what the client sends into the queue.
func (c *FakeConn) readLoop() {
	defer c.goroutineEnded()
	r := bufio.NewReader(c.conn) // blocks while the fake is frozen
	for {
		args, err := readRequest(r)
		c.f.mu.Lock()
		for len(c.queue) >= maxQueued && !c.dead {
			c.work.Wait()
		}
		if err == nil {
			c.queue = append(c.queue, args)
		} else {
			c.eof = true
			if pe, ok := errors.AsType[protocolError](err); ok {
				c.protoErr = string(pe)
			}
		}
		dead := c.dead
		c.work.Broadcast()
		c.f.mu.Unlock()
		if err != nil || dead {
			return
		}
	}
}

// gateLocked blocks while the fake is frozen. It returns false if the
// connection has ended.
func (c *FakeConn) gateLocked() bool {
	for c.f.frozen && !c.dead {
		c.f.changed.Wait()
	}
	return !c.dead
}

// execLoop executes the queue in order.
func (c *FakeConn) execLoop() {
	defer c.goroutineEnded()
	for {
		args, ok := c.nextCommand()
		if !ok {
			return
		}
		c.execute(args)
	}
}

// nextCommand waits for a command. When there will be none, it has the
// connection closed behind the replies.
func (c *FakeConn) nextCommand() ([]string, bool) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	for len(c.queue) == 0 && !c.eof && !c.dead {
		c.work.Wait()
	}
	if !c.gateLocked() {
		return nil, false
	}
	if c.closing || len(c.queue) == 0 {
		if c.protoErr != "" {
			c.replyLocked(ReplyError("ERR Protocol error: " + c.protoErr))
		}
		c.finishLocked()
		return nil, false
	}
	args := c.queue[0]
	c.queue = c.queue[1:]
	c.work.Broadcast()
	return args, true
}

// writeLoop writes what is queued for the client.
func (c *FakeConn) writeLoop() {
	defer c.goroutineEnded()
	for {
		c.f.mu.Lock()
		for len(c.out) == 0 && !c.closing && !c.dead {
			c.output.Wait()
		}
		if !c.gateLocked() || len(c.out) == 0 {
			c.endLocked(false)
			c.f.mu.Unlock()
			return
		}
		data := c.out
		c.out = nil
		c.f.mu.Unlock()
		if _, err := c.conn.Write(data); err != nil {
			c.CloseNow()
			return
		}
	}
}

func (c *FakeConn) goroutineEnded() {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.running--
	c.f.changed.Broadcast()
}

// replyLocked queues a reply, unless it is to be swallowed or cut.
func (c *FakeConn) replyLocked(reply []byte) {
	if len(reply) == 0 || c.swallow {
		return
	}
	cut := &c.cutReply
	if *cut < 0 {
		cut = &c.f.cutReply
	}
	if *cut < 0 {
		c.sendLocked(reply)
		return
	}
	c.sendLocked(reply[:min(*cut, len(reply))])
	*cut = -1
	c.finishLocked()
}

func (c *FakeConn) sendLocked(raw []byte) {
	if c.dead || c.closing {
		return
	}
	c.out = append(c.out, raw...)
	c.output.Broadcast()
}

// finishLocked has the connection closed when its output is written.
func (c *FakeConn) finishLocked() {
	c.closing = true
	c.output.Broadcast()
	c.work.Broadcast()
}

// endLocked closes or resets the connection and stops its goroutines.
func (c *FakeConn) endLocked(reset bool) {
	if c.dead {
		return
	}
	c.dead = true
	c.f.conns = slices.DeleteFunc(c.f.conns, func(o *FakeConn) bool { return o == c })
	if reset {
		c.conn.Reset()
	}
	_ = c.conn.Close()
	c.work.Broadcast()
	c.output.Broadcast()
	c.f.changed.Broadcast()
}
