package hooks

// Remembered is how many clients the hook remembers that it is attached to.
func (h *Hook) Remembered() int {
	h.clients.mu.Lock()
	defer h.clients.mu.Unlock()
	return len(h.clients.set)
}
