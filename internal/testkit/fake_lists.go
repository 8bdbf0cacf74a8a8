package testkit

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// blockedPop is a connection that waits in BLPOP or BRPOP.
type blockedPop struct {
	c    *FakeConn
	keys []storeKey
	tail bool
	done bool
	got  []byte // the reply
}

func (c *FakeConn) listAt(name string) (v storeValue, found bool, wrong []byte) {
	v, found = c.f.store.get(c.key(name))
	if found && !v.isList {
		return v, found, wrongType()
	}
	return v, found, nil
}

// cmdPush is LPUSH and RPUSH.
func (c *FakeConn) cmdPush(args []string) []byte {
	v, _, wrong := c.listAt(args[1])
	if wrong != nil {
		return wrong
	}
	v.isList = true
	v.list = slices.Clone(v.list)
	for _, e := range args[2:] {
		if strings.EqualFold(args[0], "LPUSH") {
			v.list = slices.Insert(v.list, 0, e)
		} else {
			v.list = append(v.list, e)
		}
	}
	k := c.key(args[1])
	c.f.store.set(k, v)
	if !c.session.inExec {
		c.f.serveBlockedLocked()
	} // else at the end of EXEC: a transaction is one step for everybody
	return ReplyInt(int64(len(v.list)))
}

// cmdPop is LPOP and RPOP.
func (c *FakeConn) cmdPop(args []string) []byte {
	_, found, wrong := c.listAt(args[1])
	switch {
	case wrong != nil:
		return wrong
	case !found:
		return c.null()
	}
	return ReplyBulk(c.f.popLocked(c.key(args[1]), strings.EqualFold(args[0], "RPOP")))
}

// popLocked takes an element from a list that isn't empty.
func (f *Fake) popLocked(k storeKey, tail bool) string {
	v := f.store.values[k]
	i := 0
	if tail {
		i = len(v.list) - 1
	}
	e := v.list[i]
	v.list = slices.Delete(slices.Clone(v.list), i, i+1)
	if len(v.list) == 0 {
		f.store.remove(k)
	} else {
		f.store.set(k, v)
	}
	return e
}

func (c *FakeConn) cmdLLen(args []string) []byte {
	v, _, wrong := c.listAt(args[1])
	if wrong != nil {
		return wrong
	}
	return ReplyInt(int64(len(v.list)))
}

func (c *FakeConn) cmdLRange(args []string) []byte {
	v, _, wrong := c.listAt(args[1])
	if wrong != nil {
		return wrong
	}
	from, err1 := strconv.Atoi(args[2])
	to, err2 := strconv.Atoi(args[3])
	if err1 != nil || err2 != nil {
		return notInteger()
	}
	if from < 0 {
		from = max(from+len(v.list), 0)
	}
	if to < 0 {
		to += len(v.list)
	}
	to = min(to+1, len(v.list))
	if from >= to {
		return ReplyArray()
	}
	return ReplyArray(bulks(v.list[from:to])...)
}

// cmdBlockingPop is BLPOP and BRPOP. It waits for a push, for the timeout, or
// for the client to go away. In a transaction it doesn't wait, as on a server.
func (c *FakeConn) cmdBlockingPop(args []string) []byte {
	seconds, err := strconv.ParseFloat(args[len(args)-1], 64)
	if err != nil {
		return ReplyError("ERR timeout is not a float or out of range")
	}
	if seconds < 0 {
		return ReplyError("ERR timeout is negative")
	}
	b := &blockedPop{c: c, tail: strings.EqualFold(args[0], "BRPOP")}
	for _, name := range args[1 : len(args)-1] {
		if _, _, wrong := c.listAt(name); wrong != nil {
			return wrong
		}
		b.keys = append(b.keys, c.key(name))
	}
	if c.f.servePopLocked(b) {
		return b.got
	}
	if c.session.inExec {
		return c.nullArray()
	}
	var deadline time.Time
	if seconds > 0 {
		deadline = time.Now().Add(time.Duration(seconds * float64(time.Second)))
	}
	f := c.f
	f.blocked = append(f.blocked, b)
	defer func() {
		f.blocked = slices.DeleteFunc(f.blocked, func(o *blockedPop) bool { return o == b })
	}()
	for !b.done && !c.dead && !c.eof && !passed(deadline) {
		waitUntil(c.work, deadline)
	}
	switch {
	case b.done:
		return b.got
	case c.dead || c.eof:
		c.queue = nil // a server frees a blocked client with all that it has sent
		return nil
	}
	return c.nullArray()
}

// serveBlockedLocked gives what there is to those who wait, longest first.
func (f *Fake) serveBlockedLocked() {
	for _, b := range f.blocked {
		if b.done || b.c.dead || b.c.eof {
			continue
		}
		if f.servePopLocked(b) {
			b.done = true
			b.c.work.Broadcast()
		}
	}
}

func (f *Fake) servePopLocked(b *blockedPop) bool {
	for _, k := range b.keys {
		if v, found := f.store.get(k); found && v.isList {
			b.got = ReplyArray(ReplyBulk(k.key), ReplyBulk(f.popLocked(k, b.tail)))
			return true
		}
	}
	return false
}
