package pooler

import (
	"slices"
	"testing"
	"time"
)

// clockwork is the progress of a session whose only lane is the one that is judged. A
// round takes so long, and each reply of it.
type clockwork struct {
	round, each time.Duration
	at          time.Duration
	n           uint64
}

func (c *clockwork) now() time.Duration { return c.at }

func (c *clockwork) answered() uint64 { return c.n }

// endRound has all answered that was under way at the last judgement, so much of it too
// late, which comes last. It returns how many that were, and the bound that is judged with as
// many under way as that allows, up to wanted.
func (w *window) endRound(by *clockwork, late, wanted int) (n int, most int64) {
	n = max(int(w.round-by.n), 1)
	by.at += by.round
	for i := range n {
		w.reply(by, i >= n-late, wanted)
	}
	return n, w.most.Load()
}

// reply has the next one answered.
func (w *window) reply(by *clockwork, late bool, wanted int) {
	by.n++
	by.at += by.each
	underWay := wanted
	if most := int(w.most.Load()); most > 0 {
		underWay = min(most, wanted)
	}
	w.note(late, by.n, by.n+uint64(underWay), by)
}

// A lane's window is half of what is under way once sixteen replies are late, and more than a
// fifth of the round's; what is under way then tells nothing of that. It is halved again after
// a round in which more than a fifth of the replies were late, grows by an eighth after one in
// which fewer were, and is gone when it doesn't bind.
func TestAWindowIsJudgedOnceARound(t *testing.T) {
	var w window
	head := clockwork{each: time.Millisecond}
	w.endRound(&head, 0, 100)
	if _, most := w.endRound(&head, 20, 100); most != 0 {
		t.Fatalf("a bound of %d after 20 late replies of 100", most)
	}
	for i := range earlyLate {
		if most := w.most.Load(); most != 0 {
			t.Fatalf("a bound of %d after %d late replies", most, i)
		}
		w.reply(&head, true, 100)
	}
	if most := w.most.Load(); most != 50 {
		t.Fatalf("a bound of %d after %d late replies, want 50", most, earlyLate)
	}
	for i, round := range []struct {
		late, n int
		most    int64
	}{
		{100, 100, 50},
		{10, 50, 56},
		{0, 50, 63},
		{56, 56, 32},
		{63, 63, 16},
		{32, 32, 8},
		{16, 16, 4},
		{8, 8, 4},
		{0, 4, 5},
		{0, 4, 6},
		{1, 5, 7},
		{6, 6, 4},
		{0, 7, 5},
		{0, 4, 6},
	} {
		if n, most := w.endRound(&head, round.late, 100); n != round.n || most != round.most {
			t.Fatalf("round %d: after %d replies, %d of them late, the bound is %d; want %d and %d", i, n, round.late, most, round.n, round.most)
		}
	}
	if w.full(5) || !w.full(6) || !w.full(7) {
		t.Error("the bound of 6 isn't what it is full by")
	}
	for range 3 {
		w.endRound(&head, 0, 1)
	}
	if w.full(1000) {
		t.Errorf("a bound of %d is left where one is under way", w.most.Load())
	}
}

// Where a round takes as long however little is under way, the window is opened, and isn't
// narrowed again for so many rounds, each time for more.
func TestAWindowThatIsNarrowedInVainIsOpened(t *testing.T) {
	var w window
	by := clockwork{round: 50 * time.Millisecond}
	var bounds []int64
	for range 15 {
		_, most := w.endRound(&by, 100, 100)
		bounds = append(bounds, most)
	}
	want := []int64{50, 50, 0, 0, 50, 50, 0, 0, 0, 0, 0, 50, 50, 0, 0}
	if !slices.Equal(bounds, want) {
		t.Errorf("the bounds are %v, want %v", bounds, want)
	}
	if w.rest != 15 {
		t.Errorf("it rests for %d rounds more, want 15", w.rest)
	}
}
