package pooler

import "time"

// Place says what a request is for, where several nodes share the work. The zero
// value is a request for this node, whatever becomes of it.
type Place struct {
	// Places is asked while the node isn't well. nil: the request waits here.
	Places Places
	// Slot is the part of the work that the request is for; negative: none.
	Slot int
}

// Illness says since when a node isn't well.
type Illness struct {
	// Since is when the node was last known to be well. Zero: it is well now.
	Since time.Time
	// Silent says that the node accepts connections, as far as is known, and owes
	// replies; it may be slow.
	Silent bool
	// Serves says that it has connections on which it may serve all the same.
	Serves bool
	// Answers says that some of those are held by nobody: see [Pooler.Answers].
	Answers bool
}

// Ill reports whether the node isn't well.
func (i Illness) Ill() bool { return !i.Since.IsZero() }

// Places knows where requests can be served.
type Places interface {
	// Here reports whether a request for the slot may wait at the node of that
	// address, which is ill. It is called with the node's pool locked: it must not
	// block, nor call the pool.
	Here(node string, slot int, ill Illness) bool
}

// Illness says whether the node is ill. See [Pooler].
func (p *Pool) Illness() Illness {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.illnessLocked()
}

// illnessLocked says whether the node is ill. One that stays silent where it is asked
// again counts as ill, since it was asked first.
func (p *Pool) illnessLocked() Illness {
	switch {
	case p.health.state != StateUp:
		return Illness{Since: p.health.downTime, Serves: p.servesLocked(), Answers: p.answersLocked()}
	case p.doubts.running.Load() > 0:
		return Illness{Since: p.start.Add(p.doubts.since), Silent: true}
	}
	return Illness{}
}

// elsewhereLocked returns why a request must not wait here, or nil.
func (p *Pool) elsewhereLocked(at Place) error {
	if at.Places == nil {
		return nil
	}
	ill := p.illnessLocked()
	if !ill.Ill() || at.Places.Here(p.node.Addr, at.Slot, ill) {
		return nil
	}
	return p.downErrorLocked(ErrElsewhere)
}

// Release asks again whether those who wait may. See [Pooler].
func (p *Pool) Release(places Places) {
	p.mu.Lock()
	defer p.unlock()
	p.sendAwayLocked()
	ill := p.illnessLocked()
	if ill.Silent && !places.Here(p.node.Addr, -1, ill) && len(p.leaveSilentLocked(p.doubts.began)) > 0 {
		p.closeUnusedLocked()
	}
}

// sendAwayLocked ends the wait of those who have no reason any more to wait here. They
// look at once whether others are well, so that what is read without the lock comes first.
func (p *Pool) sendAwayLocked() {
	p.settleServesLocked()
	now := p.now()
	for _, l := range p.lots {
		for _, list := range l.lists() {
			list.each(func(w *waiter) {
				if err := p.elsewhereLocked(w.place); err != nil {
					p.failWaiterLocked(w, err, now)
				}
			})
		}
	}
	p.health.awaiting.each(func(w *waiter) {
		if err := p.elsewhereLocked(w.place); err != nil {
			w.release(err)
		}
	})
}

// each calls f, which may take the waiter off the list, for each waiter.
func (l *waiterList) each(f func(*waiter)) {
	for w := l.head; w != nil; {
		next := w.next
		f(w)
		w = next
	}
}
