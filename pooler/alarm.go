package pooler

import "time"

// alarm is one timer for all who want to be looked at: most of them are served before
// their time is over, and a timer for each would cost more than the rest of their wait.
// It is guarded by the lock under which what it calls looks.
type alarm struct {
	look  func()
	timer *time.Timer
	at    time.Duration // when it goes off, since Pool.start; 0: it doesn't
}

// set has look called at the given time, unless that is to be sooner anyway. look has to
// say by clear when the alarm may be set again.
func (a *alarm) set(at, now time.Duration) {
	if a.at != 0 && a.at <= at {
		return
	}
	if a.at = at; a.timer == nil {
		a.timer = time.AfterFunc(at-now, a.look)
	} else {
		a.timer.Reset(at - now)
	}
}

// clear notes that the alarm has gone off.
func (a *alarm) clear() { a.at = 0 }

// cancel takes the alarm back, unless it is going off.
func (a *alarm) cancel() {
	if a.timer != nil && a.timer.Stop() {
		a.at = 0
	}
}
