package handle

import (
	"errors"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/pooler"
)

// carried is what a connection is known to carry beyond its session, by the replies
// so far: what another connection would lack, and no other handle may meet.
type carried struct {
	pin      command.Pin // for the handle's life, or PinNone
	firm     bool        // a command that pins was accepted
	inMulti  bool
	watching bool
	asking   bool
	told     command.Pin // what the pool was told of it
}

// keeps reports whether there is anything.
func (c *carried) keeps() bool { return c.reason() != command.PinNone || c.asking }

// reason is what the pool has to know of why a lease outlasts its requests.
func (c *carried) reason() command.Pin {
	switch {
	case c.pin != command.PinNone:
		return c.pin
	case c.inMulti:
		return command.PinMulti
	case c.watching:
		return command.PinWatch
	}
	return command.PinNone
}

// mayLose reports whether the connection may be closed while its handle is idle, if
// others can't have one otherwise. What it carries is then lost, as if the server
// had closed it; nobody waits for anything from it meanwhile.
func (c *carried) mayLose() bool {
	switch c.pin {
	case command.PinClientID, command.PinUnknown, command.PinSession, command.PinHImport, command.PinReset:
		return !c.inMulti && !c.watching && !c.asking
	}
	return false
}

// hold pins the handle for life, unless something does already.
func (c *carried) hold(why command.Pin) {
	if c.pin == command.PinNone {
		c.pin = why
	}
}

// errInsideMulti: the server has MULTI, and EXEC it has not.
var errInsideMulti = errors.New("everpool: EXEC was refused where MULTI was not")

// note takes note of the reply to a command. Of EXEC's reply head is the beginning.
// EXEC ends a transaction even if it is refused, unless it is no command there: then
// the connection is inside MULTI for ever, and the error says so.
func (c *carried) note(k kind, failed bool, head []byte) (err error) {
	if k != asking {
		c.asking = false
	}
	switch k {
	case multi:
		c.inMulti = c.inMulti || !failed
	case exec:
		if c.inMulti && failed && resp.UnknownCommand(head) {
			err = errInsideMulti
		}
		if c.inMulti {
			c.inMulti, c.watching = false, false
		}
	case discard:
		if c.inMulti && !failed {
			c.inMulti, c.watching = false, false
		}
	case watch:
		c.watching = c.watching || !failed && !c.inMulti
	case unwatch:
		c.watching = c.watching && (failed || c.inMulti)
	case asking:
		c.asking = !failed
	}
	return err
}

// refused takes note that the command that pins was refused: it has left nothing
// behind, and if no other has, the pin is off.
func (c *carried) refused(r *run) (unpinned bool) {
	if c.firm || c.inMulti || c.pin != r.pin || r.mode() != pooler.Pushes {
		return false
	}
	c.pin = command.PinNone
	return true
}

// soils says why a connection that is left with these commands unanswered can't be
// another handle's; nil if it can. What is still to be answered counts as if it had
// its effect: the state is entered before the reply comes.
func (c *carried) soils(pending []run) (pooler.CloseReason, error) {
	inside, changed := c.inMulti, c.watching || c.asking
	for _, r := range pending {
		switch r.kind {
		case plain:
			if r.blocking {
				// What it takes from a list while its reply is awaited would be lost.
				return pooler.CloseAbandoned, errors.New("everpool: left while it blocked")
			}
		case multi:
			inside = true
		case exec:
			inside = false
		default:
			changed = true
		}
	}
	if inside || changed {
		return pooler.CloseState, errors.New("everpool: left inside a transaction or while the connection's state was being changed")
	}
	return pooler.CloseState, nil
}
