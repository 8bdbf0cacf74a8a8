package hotkey

import (
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/everpool/everpool/internal/topk"
)

// Hot is a key that has become hot.
type Hot struct {
	Class Class
	Count // over the window in which it did
}

// cooled is the share of HotRate below which a hot key is hot no more. A key whose
// rate is about HotRate is told of once, and not in every other window.
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
		rate := w.perSecond(e)
		_, was := before[e.Key]
		if rate < t.cfg.HotRate && !(was && rate >= t.cfg.HotRate*cooled) {
			continue
		}
		now[e.Key] = struct{}{}
		if !was {
			t.call(Hot{w.class, w.count(e)})
		}
	}
	t.hot[w.class] = now
}

// call calls OnHot. A panic in it would end the program; it is logged, without its
// value, which may have a key in it, unless it is the runtime's.
func (t *Tracker) call(h Hot) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		what := fmt.Sprintf("%T", v)
		if err, ok := v.(runtime.Error); ok {
			what = err.Error()
		}
		slog.Default().Error("hotkey: OnHot has panicked; tracking goes on",
			slog.String("panic", what), slog.String("stack", string(debug.Stack())))
	}()
	t.cfg.OnHot(h)
}
