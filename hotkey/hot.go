package hotkey

import (
	"log/slog"
	"maps"
	"runtime/debug"
	"time"

	"github.com/everpool/everpool/internal/guard"
)

// Hot is a key that has become hot.
type Hot struct {
	Class Class
	Count // over the window in which it did
}

// cooled is the share of HotRate below which a hot key is hot no more. A key whose
// rate is about HotRate is told of once, and not in every other window. What is
// compared is what the sketch vouches for, without the chance in the sampling:
// that alone must not cool a key whose rate is the same, nor an estimate that is
// too high keep one hot that is used no more.
const cooled = 0.5

// coolingWindows is for how many windows' time a key has to be below that. Keys that
// take turns, from one window to the next, don't become hot anew each time.
const coolingWindows = 6

// hotKeys are the keys of a class that are hot, with the end of the last window in
// which they weren't below the share. No more of them can come in a window than a
// sketch has counters.
type hotKeys map[string]time.Time

// tell calls OnHot for the keys that have become hot in a window. all is what the
// sketches had.
func (t *Tracker) tell(w *window, all []entry) {
	if t.cfg.OnHot == nil {
		return
	}
	hot := t.hot[w.class]
	for _, e := range all {
		if _, was := hot[e.Key]; was {
			if w.perSecond(float64(e.Lower())/w.rate) >= t.cfg.HotRate*cooled {
				hot[e.Key] = w.end
			}
			continue
		}
		if c := w.count(e); w.perSecond(float64(c.Lower)) >= t.cfg.HotRate {
			hot[e.Key] = w.end
			t.call(Hot{w.class, c})
		}
	}
	maps.DeleteFunc(hot, func(_ string, last time.Time) bool { return w.end.Sub(last) >= coolingWindows*t.cfg.Window })
}

// call calls OnHot. A panic in it would end the program; it is logged.
func (t *Tracker) call(h Hot) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		slog.Default().Error("hotkey: OnHot has panicked; tracking goes on",
			slog.String("panic", guard.PanicText(v)), slog.String("stack", string(debug.Stack())))
	}()
	t.cfg.OnHot(h)
}
