package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAreOffByAThirtySecondAtMost(t *testing.T) {
	var h histogram
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]time.Duration, 10_000)
	for i := range all {
		all[i] = time.Duration(math.Exp(random.Float64() * math.Log(60e9))) // 1 ns to a minute
		h.record(all[i])
	}
	slices.Sort(all)
	seen := h.snapshot()
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[max(int(math.Ceil(q*float64(len(all))))-1, 0)]
		got := seen.quantile(q)
		if off := math.Abs(float64(got-want)) / float64(want); off > 1.0/32 {
			t.Errorf("quantile %v is %s, want %s: off by %.3f", q, got, want, off)
		}
	}
}

func TestAnIntervalHasOnlyItsOwn(t *testing.T) {
	var h histogram
	h.record(time.Second)
	before := h.snapshot()
	if got := h.snapshot().since(before).quantile(0.99); got != 0 {
		t.Errorf("an empty interval has a quantile of %s", got)
	}
	h.record(10)
	if got := h.snapshot().since(before).quantile(1); got != 10 {
		t.Errorf("the slowest is %s, want 10ns", got)
	}
}

func TestDurationsBeyondTheBucketsAreCounted(t *testing.T) {
	var h histogram
	h.record(-time.Second)
	h.record(time.Hour)
	if got := h.snapshot().quantile(0.5); got != 0 {
		t.Errorf("a negative duration counts as %s, want 0", got)
	}
	if got := h.snapshot().quantile(1); got < 130*time.Second || got > 140*time.Second {
		t.Errorf("an hour counts as %s, want the longest there is", got)
	}
}
