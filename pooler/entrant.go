package pooler

import (
	"slices"
	"time"
)

// entrant is a rider that waits for room. Guarded by Lane.mu but for its channel.
type entrant struct {
	in      chan struct{} // capacity 1
	by      time.Duration
	final   bool // it is of no use later than that, reply included
	expired bool
}

// call ends the wait, or the next look at it.
func (e *entrant) call() {
	select {
	case e.in <- struct{}{}:
	default:
	}
}

// entrants are those who wait for room on a lane, in the order of their coming. Guarded by
// Lane.mu.
type entrants struct {
	all  []*entrant
	late int // so many of the first were passed over
}

func (s *entrants) any() bool { return len(s.all) > 0 }

func (s *entrants) add(e *entrant) { s.all = append(s.all, e) }

func (s *entrants) remove(e *entrant) {
	if i := slices.Index(s.all, e); i >= 0 {
		s.removeAt(i)
	}
}

func (s *entrants) removeAt(i int) {
	s.all = slices.Delete(s.all, i, i+1)
	if i < s.late {
		s.late--
	}
}

// isNext reports whether only such wait before the entrant as were passed over.
func (s *entrants) isNext(e *entrant) bool { return s.late < len(s.all) && s.all[s.late] == e }

// next takes the one out that is let in next: the first that hasn't too little time left, or
// else the last that was passed over.
func (s *entrants) next(l *lane) *entrant {
	underWay := l.inFlight()
	if took := l.window.takes(underWay); took > 0 {
		for now := l.now(); s.late < len(s.all); s.late++ {
			if e := s.all[s.late]; !e.final || !isTooShort(e.by-now, took) {
				break
			}
		}
		if s.late == len(s.all) {
			l.window.short.Store(true)
			if underWay >= minWindow {
				return nil
			}
		}
	}
	i := min(s.late, len(s.all)-1)
	e := s.all[i]
	s.removeAt(i)
	return e
}

// dismiss lets all of them go elsewhere.
func (s *entrants) dismiss() {
	for _, e := range s.all {
		e.call()
	}
	*s = entrants{}
}
