package hotkey

import "time"

// checksPerWindow is how often per window bursts are looked for.
const checksPerWindow = 10

// roll ends windows in time, on a goroutine of its own, until Close.
func (t *Tracker) roll() {
	defer close(t.rolled)
	step := t.cfg.Window
	if t.cfg.MaxSamplesPerSecond != off {
		step /= checksPerWindow
	}
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		select {
		case <-t.closing:
			t.rollLast()
			return
		case <-ticker.C:
			now := time.Now()
			for _, c := range t.classes {
				// Half a step is for ticks that come a bit early or late.
				if c != nil && c.due(now, step/2) {
					t.publish(c, c.roll(now))
				}
			}
			t.aim()
		}
	}
}

// publish does with a window what is to be done. OnHot, which may take its time,
// comes last.
func (t *Tracker) publish(c *counting, w *window) {
	all := w.entries
	t.pend(w)
	w.entries = w.significant(t.cfg.TopN)
	c.last.Store(w)
	t.tell(w, all)
}

// rollLast ends the windows that Close has cut short. They are too short to say
// how hot a key is, or to take the place of complete ones.
func (t *Tracker) rollLast() {
	now := time.Now()
	for _, c := range t.classes {
		if c == nil {
			continue
		}
		w := c.roll(now)
		t.pend(w)
		if t.pending != nil && w.complete() {
			t.pending.add(w.class, t.evidence[w.class].rest())
		}
		w.entries = w.significant(t.cfg.TopN)
		c.last.CompareAndSwap(nil, w)
	}
}

// pend hands a window's counts to the flushes: of each the part that the sketch
// vouches for, if that is most of it, and once it says something. The rest of an
// estimate may be of any other key, and would come to many times what was used where no
// key is hot.
func (t *Tracker) pend(w *window) {
	if t.pending == nil {
		return
	}
	rate := w.rate
	if t.cfg.FlushSamples {
		rate = 1
	}
	t.pending.add(w.class, t.evidence[w.class].add(w, t.cfg.TopN, rate))
}
