package pooler

import (
	"fmt"
	"testing"
)

func likeness(i int) Likeness {
	return LikenessOf(fmt.Appendf(nil, "*2\r\n$3\r\nGET\r\n$6\r\n%06d\r\n", i), "GET", false, true)
}

// crowd returns requests that all have the same two places.
func crowd(n int) []Likeness {
	of := make(map[uint64][]Likeness)
	for i := 0; ; i++ {
		x := likeness(i)
		at := uint64(x) >> likeRequest % requests &^ 1
		if of[at] = append(of[at], x); len(of[at]) == n {
			return of[at]
		}
	}
}

// What is suspected pushes out nothing that is known; what is known pushes out what
// hasn't shown itself for longer.
func TestWhatIsKnownIsPushedOutByWhatIsKnownOnly(t *testing.T) {
	s := new(sizes)
	x := crowd(4)
	s.note(x[0], hugeSize)
	s.note(x[1], hugeSize)
	for range 10 {
		s.remember(x[2], suspect)
	}
	if s.level(x[0]) != huge || s.level(x[1]) != huge || s.level(x[2]) != 0 {
		t.Errorf("beside a suspect they are %d and %d, the suspect %d", s.level(x[0]), s.level(x[1]), s.level(x[2]))
	}
	for range 2 {
		s.note(x[3], largeSize)
	}
	if s.level(x[3]) != large {
		t.Errorf("a large one found no place: %d", s.level(x[3]))
	}
}

func TestASuspectThatIsSuspectedAgainRises(t *testing.T) {
	s, x := new(sizes), likeness(1)
	for want := suspect; want <= huge; want++ {
		if s.remember(x, suspect); s.level(x) != want {
			t.Errorf("level %d, want %d", s.level(x), want)
		}
	}
	if s.remember(x, suspect); s.level(x) != huge {
		t.Errorf("level %d", s.level(x))
	}
	if s.acquit(); s.level(x) != huge {
		t.Errorf("it was acquitted: %d", s.level(x))
	}
}

func TestTheLookAtARequestAllocatesNothing(t *testing.T) {
	s := &Lanes{sizes: new(sizes)}
	request := []byte("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
	if n := testing.AllocsPerRun(100, func() {
		x, _ := s.Fit(LikenessOf(request, "GET", false, true))
		s.Note(x, 10)
		s.Note(x, largeSize)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
