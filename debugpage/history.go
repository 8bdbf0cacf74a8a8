package debugpage

import (
	"sync"
	"time"

	"github.com/everpool/everpool/internal/poolview"
	"github.com/everpool/everpool/pooler"
)

// sample is what was read at one time.
type sample struct {
	at    time.Time
	stats map[poolview.Source]pooler.Stats
}

// shortest is the least time that rates are taken of.
const shortest = time.Second

// history keeps what rates are taken from: the last sample, and the one before, since a
// request that comes soon after another one has to be compared with an older one.
type history struct {
	mu           sync.Mutex
	before, last *sample
}

// add keeps a sample, unless it is too near to the last one, and returns the one to
// compare it with; nil if there is none.
func (h *history) add(s *sample) *sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil || s.at.Sub(h.last.at) >= shortest {
		h.before, h.last = h.last, s
	}
	if h.before == nil || s.at.Sub(h.before.at) < shortest {
		return nil
	}
	return h.before
}
