package pooler

// Ticking reports whether the pool has a timer for its idle connections: from
// outside, a timer that does nothing can't be seen.
func (p *Pool) Ticking() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ticking
}
