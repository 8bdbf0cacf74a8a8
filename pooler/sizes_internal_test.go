package pooler

import (
	"fmt"
	"testing"
)

// crowd returns requests that all have the same places.
func crowd(n int) []likeness {
	var in []likeness
	for i := 0; len(in) < n; i++ {
		if x := likenessOf(fmt.Append(nil, i)); x>>2%likeSets == 0 {
			in = append(in, x)
		}
	}
	return in
}

// wantLevels says what is remembered of each.
func (s *sizes) wantLevels(t *testing.T, of []likeness, want likeness) {
	t.Helper()
	for i, x := range of {
		if got := s.level(x); got != want {
			t.Errorf("number %d has level %d, want %d", i, got, want)
		}
	}
}

// What is suspected pushes out nothing that is known; what is known pushes out what was
// there.
func TestWhatIsKnownIsPushedOutByWhatIsKnownOnly(t *testing.T) {
	s, in := new(sizes), crowd(likeWays+2)
	known, suspect, newcomer := in[:likeWays], in[likeWays], in[likeWays+1]
	for _, x := range known {
		s.note(x, largeSize)
	}
	s.raise(suspect, once)
	s.raise(suspect, twice)
	s.wantLevels(t, known, large)
	s.note(newcomer, largeSize)
	s.wantLevels(t, []likeness{newcomer}, large)
	gone := 0
	for _, x := range known {
		if s.level(x) == unsuspected {
			gone++
		}
	}
	if gone != 1 {
		t.Errorf("a newcomer has pushed %d out", gone)
	}
}

func TestANewcomerTakesThePlaceOfWhatIsRememberedForLeast(t *testing.T) {
	s, in := new(sizes), crowd(likeWays+1)
	for _, x := range in[:likeWays] {
		s.raise(x, twice)
	}
	s.note(in[3], 1) // once is left
	s.raise(in[likeWays], twice)
	s.wantLevels(t, in[3:4], unsuspected)
	s.wantLevels(t, append(append(in[:3:3], in[4:likeWays]...), in[likeWays]), twice)
}

func TestARequestIsForgottenAfterThreeSmallReplies(t *testing.T) {
	s, x := new(sizes), crowd(1)
	s.note(x[0], largeSize)
	s.note(x[0], largeSize)
	for want := large - 1; ; want-- {
		s.note(x[0], largeSize-1)
		if s.wantLevels(t, x, want); want == unsuspected {
			break
		}
	}
	if *s != (sizes{}) {
		t.Error("something is left of it")
	}
}

func TestALevelIsRaisedNotLowered(t *testing.T) {
	s, x := new(sizes), crowd(1)
	s.note(x[0], largeSize)
	s.raise(x[0], once)
	s.wantLevels(t, x, large)
}

// What has no likeness, as the lane's own PINGs, is like what isn't in the table.
func TestWhatHasNoLikenessIsNotRemembered(t *testing.T) {
	s := new(sizes)
	s.note(0, largeSize)
	s.note(0, 1)
	s.raise(0, twice)
	if s.level(0) != unsuspected || *s != (sizes{}) {
		t.Errorf("level %d", s.level(0))
	}
}

func BenchmarkTheLookAtARequest(b *testing.B) {
	s := new(sizes)
	request := []byte("*2\r\n$3\r\nGET\r\n$9\r\nuser:1234\r\n")
	b.ReportAllocs()
	for b.Loop() {
		x := likenessOf(request)
		if s.level(x) < large {
			s.note(x, 32)
		}
	}
}
