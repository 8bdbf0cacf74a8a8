package testkit

func (c *FakeConn) cmdMulti([]string) []byte {
	if c.session.multi {
		return ReplyError("ERR MULTI calls can not be nested")
	}
	c.session.multi = true
	return ReplySimple("OK")
}

func (c *FakeConn) cmdDiscard([]string) []byte {
	if !c.session.multi {
		return ReplyError("ERR DISCARD without MULTI")
	}
	c.endMulti()
	return ReplySimple("OK")
}

func (c *FakeConn) cmdWatch(args []string) []byte {
	if c.session.multi {
		return ReplyError("ERR WATCH inside MULTI is not allowed")
	}
	for _, name := range args[1:] {
		k := c.key(name)
		if _, watched := c.session.watched[k]; !watched {
			c.f.store.get(k) // an expired key is gone now, not a conflict later
			c.session.watched[k] = c.f.store.versions[k]
		}
	}
	return ReplySimple("OK")
}

func (c *FakeConn) cmdUnwatch([]string) []byte {
	clear(c.session.watched)
	return ReplySimple("OK")
}

func (c *FakeConn) endMulti() {
	c.session.multi, c.session.aborted, c.session.queued = false, false, nil
	clear(c.session.watched)
}

// execLocked runs the queued commands in one step. If one of them has a
// handler, it returns a handler that runs them one by one: handlers are called
// without the lock, at the price of the one step.
func (c *FakeConn) execLocked([]string) ([]byte, Handler) {
	if !c.session.multi {
		return ReplyError("ERR EXEC without MULTI"), nil
	}
	queued, aborted, conflict := c.session.queued, c.session.aborted, c.conflictLocked()
	c.endMulti()
	switch {
	case aborted:
		return ReplyError("EXECABORT Transaction discarded because of previous errors."), nil
	case conflict:
		return c.nullArray(), nil
	}
	for _, args := range queued {
		if c.handlerLocked(args) != nil {
			return nil, func(c *FakeConn, _ []string) []byte { return c.execHandled(queued) }
		}
	}
	c.session.inExec = true
	replies := aggregate('*', len(queued), nil)
	for _, args := range queued {
		reply, _ := c.dispatchLocked(args)
		replies = append(replies, reply...)
	}
	c.session.inExec = false
	c.f.serveBlockedLocked()
	return replies, nil
}

func (c *FakeConn) execHandled(queued [][]string) []byte {
	replies := aggregate('*', len(queued), nil)
	for _, args := range queued {
		c.f.mu.Lock()
		c.session.inExec = true
		reply, handler := c.dispatchLocked(args)
		c.session.inExec = false
		c.f.mu.Unlock()
		if handler != nil {
			reply = handler(c, args)
		}
		replies = append(replies, reply...)
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.serveBlockedLocked()
	return replies
}

func (c *FakeConn) conflictLocked() bool {
	for k, version := range c.session.watched {
		c.f.store.get(k) // expiry counts as a change
		if c.f.store.versions[k] != version {
			return true
		}
	}
	return false
}
