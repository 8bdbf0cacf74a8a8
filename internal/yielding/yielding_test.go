package yielding

import (
	"testing"
	"time"
)

// fake is a program whose yields take so long, of which it uses a part itself.
type fake struct {
	Yielder
	clock, used time.Duration
	took        time.Duration
	share       float64 // of the processors
	brings      int
	brought     int
	yields      int
}

func newFake() *fake {
	f := &fake{clock: 1, share: 1}
	f.now = func() time.Duration { return f.clock }
	f.cpu = func() time.Duration { return f.used }
	f.yield = func() {
		f.yields++
		f.clock += f.took
		f.used += time.Duration(f.share * float64(f.took))
		f.brought += f.brings
	}
	return f
}

// yieldsIn is how many yields are made in such a time by a caller that always asks.
func (f *fake) yieldsIn(d time.Duration) int {
	before := f.yields
	for end := f.clock + d; f.clock < end; f.clock += 100 * time.Microsecond {
		f.Yield(func() int { return f.brought })
	}
	return f.yields - before
}

func TestYieldsThatBringTooLittleAreMadeSeldom(t *testing.T) {
	for name, row := range map[string]struct {
		took   time.Duration
		share  float64
		brings int
		want   int // in 10 s
	}{
		"short":                         {50 * time.Microsecond, 1, 0, 66667},
		"long, for many":                {10 * time.Millisecond, 1, 500, 991},
		"a goroutine computes":          {10 * time.Millisecond, 1, 3, 11},
		"goroutines compute, on two":    {20 * time.Millisecond, 2, 16, 6},
		"other programs have the cores": {10 * time.Millisecond, 0.2, 3, 991},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.took, f.share, f.brings = row.took, row.share, row.brings
			if n := f.yieldsIn(10 * time.Second); n != row.want {
				t.Errorf("%d yields in 10 s, want %d", n, row.want)
			}
		})
	}
}

// What computed is over: yields are made again.
func TestYieldsAreMadeAgain(t *testing.T) {
	f := newFake()
	f.took = 10 * time.Millisecond
	f.yieldsIn(time.Second)
	f.took = 50 * time.Microsecond
	f.yieldsIn(2 * time.Second)
	if n := f.yieldsIn(time.Second); n != 6667 {
		t.Errorf("%d yields in 1 s, want 6667", n)
	}
	f.took = 10 * time.Millisecond
	if f.yieldsIn(100 * time.Millisecond); f.yieldsIn(100*time.Millisecond) != 0 {
		t.Error("yields although something computes again")
	}
}

// One that yields for a single thing, which it doesn't count, is bound the same way.
func TestAYieldForOneThing(t *testing.T) {
	f := newFake()
	f.took = 10 * time.Millisecond
	for range 5 {
		f.Yield(nil)
	}
	if f.yields != 2 {
		t.Errorf("%d yields, want two, the second to see that it is this program", f.yields)
	}
	if y := New(); !y.Yield(nil) || y.cpu() <= 0 {
		t.Error("a new one doesn't yield, or has no clock")
	}
}
