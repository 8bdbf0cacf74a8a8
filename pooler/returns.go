package pooler

import "time"

// A request may ask about an earlier one of its rider's (WAIT), which only the connection that
// has carried that one can answer: Request.Want. While some do, an idle connection is left to
// the rider that has had it last, for a moment, as long as there is another. Else those who ask
// would wait for each other, each for as long as the server holds its answer back. No request
// waits because of that: where all idle ones are left to others it gets one of these, and one
// more connection is opened for the next. Another lane is no request, and gets a new one.

// returnFor is how long an idle connection is left to the rider that has had it, and for how
// long after a request has asked about an earlier one they are.
const returnFor = time.Second

// returningLocked reports whether requests ask about earlier ones.
func (p *Pool) returningLocked(now time.Duration) bool {
	return p.use.asked > 0 && now-p.use.asked < returnFor
}

// pickLocked returns which of the lot's idle connections the rider gets, -1 if there is none:
// its own, or else the one last used of those that are left to nobody.
func (p *Pool) pickLocked(l *lot, r *Rider, now time.Duration) int {
	last := len(l.idle) - 1
	if last < 0 || !p.returningLocked(now) {
		return last
	}
	free := -1
	for i := last; i >= 0; i-- {
		c := l.idle[i]
		if c.user == r {
			return i
		}
		if free < 0 && (c.user == nil || now-c.idleSince >= returnFor) {
			free = i
		}
	}
	if free >= 0 {
		return free
	}
	l.another, p.later.grow = true, true
	return 0 // it has been left for longest
}
