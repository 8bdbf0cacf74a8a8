package pooler

import (
	"bufio"
	"io"
	"testing"
	"time"
)

// world is what an exchange takes each way. It runs a trial in it.
type world struct {
	trial
	now            time.Duration
	answered       uint64
	apart, shared  time.Duration
	inApart, whole time.Duration
}

// run has so much time pass.
func (w *world) run(d time.Duration) {
	w.inApart, w.whole = 0, d
	for end := w.now + d; w.now < end; {
		took := trialLooks * w.apart
		if w.together.Load() {
			took = trialLooks * w.shared
		} else {
			w.inApart += took
		}
		w.now += took
		w.answered += trialLooks
		w.note(w.now, w.answered)
	}
}

// Few callers have the way that is the faster, soon, and nearly all of the time.
func TestFewCallersGoTheWayThatIsFaster(t *testing.T) {
	const slow, fast = 20 * time.Microsecond, 15 * time.Microsecond
	w := &world{apart: slow, shared: fast}
	w.run(300 * time.Millisecond)
	for range 3 {
		w.run(10 * time.Second)
		if w.inApart > w.whole/30 || w.inApart == 0 {
			t.Errorf("%v of %v with a lane each, which is slower; want a little, to know", w.inApart, w.whole)
		}
		w.apart, w.shared = fast, slow
		w.run(300 * time.Millisecond)
		w.run(10 * time.Second)
		if rest := w.whole - w.inApart; rest > w.whole/30 || rest <= 0 {
			t.Errorf("%v of %v with shared lanes, which is slower; want a little, to know", rest, w.whole)
		}
		w.apart, w.shared = slow, fast
		w.run(300 * time.Millisecond)
	}
}

// What is no faster isn't taken, nor what seems so since everything becomes faster meanwhile,
// or slower, or once.
func TestFewCallersKeepTheirWayWhereTheOtherIsNoFaster(t *testing.T) {
	for name, changes := range map[string]func(w *world, i int){
		"both are alike":            func(*world, int) {},
		"everything becomes faster": func(w *world, i int) { w.apart = max(w.apart-10*time.Nanosecond, time.Microsecond); w.shared = w.apart },
		"everything becomes slower": func(w *world, i int) { w.apart += 10 * time.Nanosecond; w.shared = w.apart },
		"it was four times": func(w *world, i int) {
			w.shared = w.apart - 1
			if i >= 4*2 {
				w.shared = w.apart + 1
			}
		},
		"a lane has gone": func(w *world, i int) {
			if i%10 == 9 {
				w.answered /= 2
			}
		},
	} {
		w := &world{apart: 20 * time.Microsecond, shared: 20 * time.Microsecond}
		for i := range 2000 {
			changes(w, i)
			w.run(trialWindow)
			if w.better {
				t.Errorf("%s: the other way was taken, after %d windows", name, i)
				break
			}
		}
	}
}

// Where nobody is answered for long, as in an outage, nothing is learned.
func TestFewCallersLearnNothingFromWhatIsNotAnswered(t *testing.T) {
	var tr trial
	for i := range time.Duration(1000) {
		tr.note(i*time.Second+1, 5)
	}
	if tr.window != 0 || tr.together.Load() {
		t.Errorf("it is at window %d, together %v", tr.window, tr.together.Load())
	}
}

// pingedLane is a lane whose PINGs are answered.
func pingedLane(t *testing.T) *lane {
	l, far := testLane(t)
	t.Cleanup(l.watch.stop)
	l.group.lanes.Store(&[]*lane{l})
	l.pool.cfg.HealthCheckTimeout = time.Minute
	go func() {
		in := bufio.NewReader(far)
		for request := make([]byte, len(ping)); ; {
			if _, err := io.ReadFull(in, request); err != nil {
				return
			}
			_, _ = io.WriteString(far, "+PONG\r\n")
		}
	}()
	return l
}

// A lane's own PING is no write that is answered.
func TestAPingDoesNotEndThatReadsAndWritesAreApart(t *testing.T) {
	l := pingedLane(t)
	l.group.split.on.Store(true)
	l.check()
	if l.head.Load() != 1 || !l.group.split.on.Load() {
		t.Errorf("%d answered, apart: %v", l.head.Load(), l.group.split.on.Load())
	}
}

// The leaders of the lanes tell it.
func TestLeadersTellTheTrial(t *testing.T) {
	l := pingedLane(t)
	for range 2 * trialLooks {
		l.check()
	}
	if tr := &l.group.trial; tr.began == 0 || tr.answered != trialLooks && tr.answered != 2*trialLooks {
		t.Errorf("a window began at %v with %d answered", tr.began, tr.answered)
	}
}
