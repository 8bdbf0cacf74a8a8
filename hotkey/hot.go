package hotkey

import (
	"log/slog"
	"runtime/debug"

	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/topk"
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

// hotKeys are the keys of a class that are hot. They are among those of a window,
// so it can't have more than a sketch has counters.
type hotKeys map[string]struct{}

// tell calls OnHot for the keys that have become hot in a window. all is what the
// sketches had: a key that isn't among them isn't hot.
func (t *Tracker) tell(w *window, all []topk.Entry) {
	if t.cfg.OnHot == nil {
		return
	}
	before, now := t.hot[w.class], make(hotKeys)
	for _, e := range all {
		if _, was := before[e.Key]; was {
			if w.perSecond(float64(e.Lower())/w.rate) >= t.cfg.HotRate*cooled {
				now[e.Key] = struct{}{}
			}
			continue
		}
		if c := w.count(e); w.perSecond(float64(c.Lower)) >= t.cfg.HotRate {
			now[e.Key] = struct{}{}
			t.call(Hot{w.class, c})
		}
	}
	t.hot[w.class] = now
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
