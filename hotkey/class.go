package hotkey

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/topk"
)

// Class says what was done with a key.
type Class uint8

// The classes.
const (
	Reads Class = iota
	Writes
	numClasses
)

// String returns "reads" or "writes".
func (c Class) String() string {
	switch c {
	case Reads:
		return "reads"
	case Writes:
		return "writes"
	}
	return "none"
}

// classOf is the class in which an access counts, or numClasses.
func classOf(a hooks.Access) Class {
	switch a {
	case hooks.AccessRead:
		return Reads
	case hooks.AccessWrite:
		return Writes
	}
	return numClasses
}

// stripes is how many sketches a class has. A key is always in the same one, so
// that the bounds of each are those of the whole and nothing has to be merged,
// and all together need no more counters than one would.
const stripes = 4

// countersPerTop says how many counters the stripes have together for each of the
// top N keys. Twice that finds the same keys, save in streams with hardly any
// hot ones, and takes twice the memory.
const countersPerTop = 8

// minCounters of a stripe: keys aren't spread evenly, and few are spread worst.
const minCounters = 16

// counting is what a class counts, and how it samples. A class that isn't tracked
// has none.
type counting struct {
	class     Class
	rate      float64 // as configured
	budget    float64 // samples per second; 0: no bound
	window    time.Duration
	topN      int
	threshold atomic.Uint64 // of the live window's rate; 0: closed
	seed      maphash.Seed
	skipped   atomic.Uint64 // keys of commands that have too many
	stripes   [stripes]stripe
	last      atomic.Pointer[window] // the last complete one, or nil

	mu      sync.Mutex // guards what follows; taken before that of a stripe
	start   time.Time  // of the live window
	live    float64    // its rate
	earlier uint64     // samples of the windows before it
}

// stripe has a cache line of its own.
type stripe struct {
	mu     sync.Mutex // guards sketch and usages, held for a few hundred nanoseconds
	sketch *topk.Sketch
	usages []usage // by slots of the sketch
	_      [24]byte
}

func newCounting(class Class, rate float64, cfg Config, now time.Time) *counting {
	c := &counting{class: class, rate: rate, window: cfg.Window, topN: cfg.TopN, seed: maphash.MakeSeed(), start: now}
	if cfg.MaxSamplesPerSecond != off {
		c.budget = float64(cfg.MaxSamplesPerSecond)
	}
	for i := range c.stripes {
		counters := max(minCounters, countersPerTop*cfg.TopN/stripes)
		c.stripes[i].sketch, c.stripes[i].usages = topk.New(counters), make([]usage, counters)
	}
	c.sampleAt(rate)
	return c
}

// sampleAt sets the rate from here on. What was decided by the rate before and
// isn't added yet counts by the new one: a few commands, those that just end.
func (c *counting) sampleAt(rate float64) {
	c.live = rate
	c.threshold.Store(max(1, uint64(math.Ldexp(rate, thresholdBits))))
}

// add counts a name.
func (c *counting) add(name string, by use) {
	s := &c.stripes[maphash.String(c.seed, name)%stripes]
	s.mu.Lock()
	slot, admitted := s.sketch.Add(name, 1)
	if slot != topk.NoSlot {
		if admitted {
			s.usages[slot] = usage{}
		}
		s.usages[slot].add(by)
	}
	s.mu.Unlock()
}

// samples is the number of names added in the live window.
func (c *counting) samples() (n uint64) {
	for i := range c.stripes {
		s := &c.stripes[i]
		s.mu.Lock()
		n += s.sketch.Total()
		s.mu.Unlock()
	}
	return n
}

// collect puts what the sketches have into a window, and empties them if it is told
// to.
func (c *counting) collect(w *window, reset bool) {
	var top []topk.Entry
	for i := range c.stripes {
		s := &c.stripes[i]
		s.mu.Lock()
		top = s.sketch.Top(top[:0], s.sketch.Len())
		for _, e := range top {
			w.entries = append(w.entries, entry{e, s.usages[s.sketch.Slot(e.Key)]})
		}
		w.samples += s.sketch.Total()
		w.keys += s.sketch.Keys()
		if reset {
			s.sketch.Reset()
		}
		s.mu.Unlock()
	}
	slices.SortFunc(w.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Key, b.Key))
	})
}

// current is the last complete window or, before the end of the first, the live
// one.
func (c *counting) current(now time.Time) *window {
	if w := c.last.Load(); w != nil {
		return w
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &window{class: c.class, start: c.start, end: now, rate: c.live, live: true}
	c.collect(w, false)
	w.entries = w.significant(c.topN)
	return w
}

// due reports whether the live window is to end. A burst may end it early.
func (c *counting) due(now time.Time, slack time.Duration) bool {
	c.mu.Lock()
	start := c.start
	c.mu.Unlock()
	return now.Sub(start) >= c.window-slack ||
		c.budget > 0 && float64(c.samples()) > burst*c.budget*c.window.Seconds()
}

// burst is by how much a window may exceed its budget before it is ended. A rate
// that was set just so exceeds it by a little half of the time.
const burst = 1.5

// roll ends the live window and begins the next one.
func (c *counting) roll(now time.Time) *window {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &window{class: c.class, start: c.start, end: now, rate: c.live}
	c.collect(w, true)
	c.start = now
	c.earlier += w.samples
	if c.budget > 0 {
		c.sampleAt(c.adapted(w))
	}
	return w
}

// adapted is the rate that would have given the window its budget of samples.
func (c *counting) adapted(w *window) float64 {
	seconds := w.seconds()
	if w.samples == 0 || seconds <= 0 {
		return c.rate
	}
	return min(c.rate, max(minRate, w.rate*c.budget*seconds/float64(w.samples)))
}

// stats is what [Tracker.Stats] says of the class.
func (c *counting) stats() ClassStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ClassStats{SampleRate: c.live, Samples: c.earlier + c.samples(), Skipped: c.skipped.Load()}
}
