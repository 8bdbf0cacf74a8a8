package pooler

// Watching reports whether a shared connection has a timer that would go off:
// from outside, one that does nothing can't be seen.
func (p *Pool) Watching() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns.all {
		if c.lane != nil && c.lane.watch.at.Load() != 0 {
			return true
		}
	}
	return false
}

// Owed is the number of replies that have not come yet.
func (r *Rider) Owed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trip.owed
}

// HeldUp is how many lanes others had better not wait on, for the large replies that come there.
func (s *Lanes) HeldUp() (n int) {
	for _, l := range *s.lanes.Load() {
		if l.large.Load() {
			n++
		}
	}
	return n
}
