package hotkey

import "time"

// All is what a tracker has counted in the live window, without regard to whether it
// is significant.
func (t *Tracker) All(class Class, n int) []Count {
	c := t.classes[class]
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &window{class: class, start: c.start, end: time.Now(), rate: c.live}
	c.collect(w, false)
	counts := []Count{}
	for _, e := range w.entries[:max(0, min(n, len(w.entries)))] {
		counts = append(counts, w.count(e))
	}
	return counts
}
