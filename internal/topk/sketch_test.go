package topk

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"unsafe"
)

// hostileLen is the length of a hostile stream.
const hostileLen = 1000

// hostileStreams are those that a summary with few counters does worst on: each
// function says what comes at a position.
var hostileStreams = map[string]func(i int) (id, n int){
	"all different":       func(i int) (id, n int) { return i, 1 },
	"ascending frequency": func(i int) (id, n int) { return int(math.Sqrt(float64(2 * i))), 1 },
	"ascending weight":    func(i int) (id, n int) { return i, i },
	"descending weight":   func(i int) (id, n int) { return i, hostileLen - i },
	"one key":             func(int) (id, n int) { return 0, 1 },
	"one key too many":    func(i int) (id, n int) { return i % 17, 1 },
	"one key among all different": func(i int) (id, n int) {
		if i%10 == 9 {
			return 0, 1
		}
		return i, 1
	},
	"random weights": func(i int) (id, n int) {
		rng := rand.New(rand.NewPCG(uint64(i), 2))
		return rng.IntN(300), rng.IntN(50)
	},
}

// smallSketches are of 16 counters: as New makes them, and with all keys or most
// in the same cell and bucket.
var smallSketches = map[string]func() *Sketch{
	"New":                     func() *Sketch { return New(16) },
	"one cell":                func() *Sketch { return newSketch(16, 1, 16) },
	"four cells":              func() *Sketch { return newSketch(16, 4, 4) },
	"one cell and one bucket": func() *Sketch { return newSketch(16, 1, 1) },
}

func TestHostileStreams(t *testing.T) {
	for sketch, makeSketch := range smallSketches {
		for name, stream := range hostileStreams {
			t.Run(sketch+"/"+name, func(t *testing.T) {
				e := newExact(makeSketch())
				for range 4 {
					addAll(e, stream)
					e.check(t)
				}
			})
		}
	}
}

func addAll(e *exact, stream func(i int) (id, n int)) {
	for i := range hostileLen {
		id, n := stream(i)
		e.add(strconv.Itoa(id), uint64(n))
	}
}

// TestFewKeys counts exactly as long as there is a counter for each key.
func TestFewKeys(t *testing.T) {
	s := New(3)
	for _, key := range []string{"c", "a", "b", "a", "c", "a"} {
		s.Add(key, 2)
	}
	s.Add("ignored", 0)
	want := []Entry{{Key: "a", Count: 6}, {Key: "c", Count: 4}, {Key: "b", Count: 2}}
	if got := s.Top(nil, 10); !slices.Equal(got, want) {
		t.Errorf("Top = %v, want %v", got, want)
	}
	if s.Len() != 3 || s.Total() != 12 {
		t.Errorf("Len, Total = %d, %d, want 3, 12", s.Len(), s.Total())
	}
	if lower, upper := s.Bounds("never"); lower != 0 || upper != 0 {
		t.Errorf("Bounds of a key never added = %d, %d", lower, upper)
	}
}

// TestAdmission follows the rules by hand: one cell, two counters.
func TestAdmission(t *testing.T) {
	s := newSketch(2, 1, 1)
	s.Add("a", 5)
	s.Add("b", 3)
	s.Add("c", 3) // no more than the smallest: filtered out
	if lower, upper := s.Bounds("c"); lower != 0 || upper != 3 {
		t.Errorf("Bounds of a key filtered out = %d, %d, want 0, 3", lower, upper)
	}
	s.Add("d", 1) // may be the fourth occurrence: takes the counter of b
	want := []Entry{{Key: "a", Count: 5}, {Key: "d", Count: 4, Error: 3}}
	if got := s.Top(nil, 2); !slices.Equal(got, want) {
		t.Errorf("Top = %v, want %v", got, want)
	}
	s.Add("e", 2) // takes that of d
	s.Add("f", 1) // of a and e with 5 each, e is the less certain
	want = []Entry{{Key: "a", Count: 5}, {Key: "e", Count: 5, Error: 3}}
	if got := s.Top(nil, 2); !slices.Equal(got, want) {
		t.Errorf("Top = %v, want %v", got, want)
	}
	s.Add("g", 1)
	want = []Entry{{Key: "g", Count: 6, Error: 5}, {Key: "a", Count: 5}}
	if got := s.Top(nil, 2); !slices.Equal(got, want) {
		t.Errorf("Top = %v, want %v", got, want)
	}
	if _, upper := s.Bounds("e"); upper != 5 {
		t.Errorf("upper bound of a key that lost its counter = %d, want 5", upper)
	}
}

func TestTop(t *testing.T) {
	s := New(4)
	for key, n := range map[string]uint64{"d": 1, "b": 2, "a": 2, "c": 3} {
		s.Add(key, n)
	}
	first := Entry{Key: "first"}
	sorted := []Entry{first, {Key: "c", Count: 3}, {Key: "a", Count: 2}, {Key: "b", Count: 2}, {Key: "d", Count: 1}}
	for n := -1; n <= 5; n++ {
		// What follows dst in its array isn't Top's to write, beyond n entries.
		array := []Entry{first, 6: {Key: "rest"}}
		for i := 1; i < 6; i++ {
			array[i].Key = "rest"
		}
		want := sorted[:min(max(1+n, 1), 5)]
		if got := s.Top(array[:1], n); !slices.Equal(got, want) {
			t.Errorf("Top(%d) = %v, want %v", n, got, want)
		}
		for _, e := range array[len(want):] {
			if e.Key != "rest" {
				t.Errorf("Top(%d) wrote %v past its entries", n, e)
			}
		}
	}
}

// TestAddClonesKey changes the bytes of a key after Add.
func TestAddClonesKey(t *testing.T) {
	s := New(1)
	for _, want := range []string{"first", "other"} { // free counter, taken counter
		b := []byte(want)
		s.Add(unsafe.String(&b[0], len(b)), 1)
		s.Add(unsafe.String(&b[0], len(b)), 1)
		copy(b, "xxxxx")
		if got := s.Top(nil, 1)[0].Key; got != want {
			t.Errorf("the monitored key became %q, was %q", got, want)
		}
		if _, upper := s.Bounds(want); upper < 2 {
			t.Errorf("upper bound for %q = %d, want 2 or more", want, upper)
		}
		s.Add("other", 1)
	}
}

// TestSameHash looks for a key whose whole hash is that of another.
func TestSameHash(t *testing.T) {
	s := New(2)
	s.Add("a", 1)
	hash := s.counters[0].hash
	if s.find(hash, "a") == none || s.find(hash, "b") != none {
		t.Error("keys with the same hash are confused")
	}
}

func TestAllocs(t *testing.T) {
	s := New(monitors)
	for i := range monitors {
		s.Add(rankKey(i), math.MaxUint32)
	}
	dst := make([]Entry, 0, topKeys)
	rank := 0
	for name, f := range map[string]func(){
		"Add of a monitored key":  func() { s.Add(rankKey(rank%monitors), 3); rank++ },
		"Add of one filtered out": func() { s.Add(rankKey(monitors+rank), 3); rank++ },
		"Bounds":                  func() { s.Bounds(rankKey(rank)); rank++ },
		"Top":                     func() { dst = s.Top(dst[:0], topKeys) },
	} {
		if allocs := testing.AllocsPerRun(1000, f); allocs != 0 {
			t.Errorf("%s: %v allocations, want none", name, allocs)
		}
	}
}

func TestMemory(t *testing.T) {
	s := New(monitors)
	for i := range 10 * monitors {
		s.Add(rankKey(i), uint64(i))
	}
	size := int(unsafe.Sizeof(*s)) +
		cap(s.counters)*int(unsafe.Sizeof(counter{})) +
		cap(s.heap)*4 + cap(s.buckets)*4 + cap(s.cells)*int(unsafe.Sizeof(s.cells[0])) +
		s.Len()*keyLen
	t.Logf("m=%d: %d bytes", monitors, size)
	if size > 60<<10 {
		t.Errorf("%d bytes for m=%d, want at most 60 KiB", size, monitors)
	}
}

func TestReset(t *testing.T) {
	s := New(4)
	for round := range 3 {
		e := newExact(s)
		for i := range 100 {
			e.add(fmt.Sprint(round, i%20), uint64(i))
		}
		e.check(t)
		e.reset()
		e.check(t)
		if lower, upper := s.Bounds("00"); lower != 0 || upper != 0 || s.Len() != 0 || s.Total() != 0 {
			t.Fatalf("after Reset: Bounds %d, %d, Len %d, Total %d", lower, upper, s.Len(), s.Total())
		}
		for i := range s.counters[:s.m] {
			if s.counters[:s.m][i].key != "" {
				t.Fatal("Reset holds on to a key")
			}
		}
	}
}

func TestOverflow(t *testing.T) {
	const most = math.MaxUint64
	e := newExact(newSketch(2, 1, 1))
	for _, key := range []string{"a", "a", "b", "c", "d", "d"} {
		e.add(key, most-1)
		e.check(t)
	}
	if _, upper := e.sketch.Bounds("a"); upper != most || e.sketch.Total() != most {
		t.Errorf("upper bound, Total = %d, %d, want %d twice", upper, e.sketch.Total(), uint64(most))
	}
}

func TestNewPanics(t *testing.T) {
	for _, m := range []int{0, -1, maxCounters + 1, math.MaxInt32} {
		if !panics(func() { New(m) }) {
			t.Errorf("New(%d) doesn't panic", m)
		}
	}
	New(1).Add("a", 1)
}

func panics(f func()) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	f()
	return false
}
