package pooler

import (
	"fmt"
	"strings"
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
		s.note(x[0], unwantedSize-1)
		if s.wantLevels(t, x, want); want == unsuspected {
			break
		}
	}
	if at := s.find(x[0]); at != nil {
		t.Error("something is left of it")
	}
}

// Lanes die under what adds up, too. Each such reply is no proof that they didn't.
func TestAReplyOfMediumSizeClearsNothingThatLanesDiedUnder(t *testing.T) {
	s, x := new(sizes), crowd(1)
	for _, want := range []likeness{once, twice} {
		s.blame(x[0])
		s.note(x[0], unwantedSize)
		s.note(x[0], largeSize-1)
		s.wantLevels(t, x, want)
	}
	s.note(x[0], largeSize)
	s.note(x[0], largeSize-1)
	s.note(x[0], largeSize-1)
	s.wantLevels(t, x, twice)
	s.note(x[0], unwantedSize-1)
	s.wantLevels(t, x, once)
}

// From then on that it is known that lanes die of what they are asked, replies are large
// that add up, until the node was away.
func TestRepliesOfMediumSizeAreLargeWhereTheServerBoundsThem(t *testing.T) {
	s, x := new(sizes), features{request: crowd(1)[0]}
	s.bounded.Store(true)
	s.answered(x, unwantedSize-1, true)
	if s.isLarge(x) {
		t.Error("a small one is large")
	}
	s.answered(x, unwantedSize, true)
	s.answered(x, unwantedSize, true)
	if !s.isLarge(x) {
		t.Error("it isn't large")
	}
	s.forget()
	s.answered(x, unwantedSize, true)
	if s.isLarge(x) {
		t.Error("after the node was away it is large")
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
	if s.level(0) != unsuspected || s.table.Load() != nil {
		t.Errorf("level %d", s.level(0))
	}
}

// request is one with these arguments.
func request(args ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// What differs in its later arguments is of one key, what differs in the key of one command.
func TestFeaturesOfARequest(t *testing.T) {
	long := strings.Repeat("x", likeUpTo)
	of := func(args ...string) features { return featuresOf(request(args...), 1) }
	for _, c := range []struct {
		a, b                features
		request, key, named bool // alike, and known
	}{
		{of("GETRANGE", "k", "0", "1"), of("GETRANGE", "k", "0", "2"), false, true, true},
		{of("GETRANGE", "k", "0", "1"), of("GETRANGE", "other", "0", "1"), false, false, true},
		{of("GETRANGE", "k", "0", "1"), of("SUBSTR", "k", "0", "1"), false, false, false},
		{of("MGET", "a", "b"), of("MGET", "a", "b", "c"), false, true, true},
		{of("GET", "k"), of("GET", "k"), true, false, true}, // its key says no more than all of it
		{of("PING"), of("PING"), true, false, true},
		{of("GETRANGE", long, "0", "1"), of("GETRANGE", long, "0", "1"), true, false, true},
		{of(long, "0", "1"), of(long, "0", "1"), true, false, false},
		{featuresOf(request("GET", "k"), 9), featuresOf(request("GET", "k"), 9), true, false, true}, // a pipeline
		{featuresOf(request("GET", "k"), 9), featuresOf(request("GET", "other"), 12), false, false, true},
		{featuresOf(request("GET", "k"), 9), featuresOf(request("GET", "k"), 2), true, false, false},
		{featuresOf(request("GET", "k"), 9), of("GET", "k"), true, false, false},
		{featuresOf([]byte("PING\r\n"), 1), featuresOf([]byte("PING\r\n"), 1), true, false, false},
		{featuresOf(nil, 1), featuresOf([]byte("*1\r\n$9"), 1), false, false, false},
		{featuresOf([]byte("*1\r\n$\r\n\r\n"), 1), featuresOf([]byte("*1\r\n$\r\n\r\n"), 1), true, false, false},
	} {
		request, key, named := c.a.request == c.b.request, c.a.key == c.b.key && c.a.key != 0, c.a.name == c.b.name && c.a.name != 0
		if request != c.request || key != c.key || named != c.named {
			t.Errorf("%v and %v are alike: request %v, key %v, name %v; want %v, %v, %v", c.a, c.b, request, key, named, c.request, c.key, c.named)
		}
	}
}

// One large reply tells of all ranges of a key, and three in a row of all keys. A small one
// takes that back.
func TestALargeReplyTellsOfTheNextLikeIt(t *testing.T) {
	s := new(sizes)
	of := func(args ...string) features { return featuresOf(request(args...), 1) }
	want := func(f features, large bool) {
		t.Helper()
		if got := s.isLarge(f); got != large {
			t.Errorf("is large: %v, want %v", got, large)
		}
	}
	s.answered(of("GETRANGE", "big", "0", "-1"), largeSize, true)
	want(of("GETRANGE", "big", "0", "-2"), true)
	want(of("GETRANGE", "other", "0", "-1"), false)
	s.answered(of("GETRANGE", "big", "0", "1"), 1, true)
	want(of("GETRANGE", "big", "0", "-2"), false)

	s.answered(of("MGET", "a", "b"), largeSize, true)
	s.answered(of("MGET", "c", "d"), 1, true)
	for i := range 3 {
		want(of("MGET", "z", "y"), false)
		s.answered(of("MGET", fmt.Sprint("k", i), "l"), unwantedSize, false)
	}
	want(of("MGET", "z", "y"), true)
	s.answered(of("MGET", "z", "y"), 1, true)
	want(of("MGET", "y", "z"), false)
}

// What went on elsewhere was wanted: its caller has had its reply there.
func TestTheReplyToWhatHasGoneElsewhereIsNotUnwanted(t *testing.T) {
	for rider, large := range map[*Rider]bool{&ghost: false, {closed: true}: true} {
		l, far := testLane(t)
		l.group.lanes.Store(&[]*lane{l})
		r, f := NewRider(), featuresOf(request("GET", "k"), 1)
		l.mu.Lock()
		if err := l.boardLocked(r, &Exchange{Request: request("GET", "k"), Replies: 1, known: f}); err != nil {
			t.Fatal(err)
		}
		l.mu.Unlock()
		l.slots[0].rider.Store(rider)
		reply := fmt.Appendf(nil, "$%d\r\n%s\r\n", unwantedSize, strings.Repeat("x", unwantedSize))
		go func() { _, _ = far.Write(reply) }()
		for l.inFlight() > 0 {
			l.fill(r)
			l.deliver()
		}
		if got := l.group.sizes.isLarge(f); got != large {
			t.Errorf("large: %v, want %v", got, large)
		}
		l.watch.stop()
	}
}

func BenchmarkTheLookAtARequest(b *testing.B) {
	s := new(sizes)
	request := request("GET", "user:1234")
	b.ReportAllocs()
	for b.Loop() {
		if f := featuresOf(request, 1); !s.isLarge(f) {
			s.answered(f, 32, true)
		}
	}
}
