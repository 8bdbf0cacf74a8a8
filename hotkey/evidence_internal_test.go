package hotkey

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/internal/topk"
)

const evidenceTop = 32

const seed = 1

// windows adds windows of a sketch's size, each of so many draws, to evidence, and returns
// what was flushed of each key, what was drawn of it, and the evidence.
func windows(n, samples int, draw func(window int) int) (flushed, drawn map[string]uint64, v *evidence) {
	flushed, drawn, v = make(map[string]uint64), make(map[string]uint64), new(evidence)
	sketch := topk.New(evidenceTop * countersPerTop)
	for i := range n {
		for range samples {
			key := fmt.Sprint(draw(i))
			drawn[key]++
			sketch.Add(key, 1)
		}
		w := &window{samples: sketch.Total(), keys: sketch.Keys()}
		for _, e := range sketch.Top(nil, sketch.Len()) {
			w.entries = append(w.entries, entry{Entry: e})
		}
		sketch.Reset()
		for key, n := range v.add(w, evidenceTop, 1) {
			flushed[key] += n
		}
		if len(v.waiting) > evidenceTop*waitingPerTop {
			panic("more wait than may")
		}
	}
	return flushed, drawn, v
}

// However many windows there are: where no key is hot none is flushed.
func TestWhereNoKeyIsHotNoneGetsIntoTheSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed, 3))
	next := 0
	for name, c := range map[string]struct {
		windows, samples int
		draw             func(int) int
	}{
		"unique keys":                        {400, 100, func(int) int { next++; return next }},
		"unique keys, many":                  {20, 20_000, func(int) int { next++; return next }},
		"three times each":                   {400, 99, func(int) int { next++; return next / 3 }},
		"a hundred of 5,000 in each window":  {1000, 100, func(int) int { return rng.IntN(5000) }},
		"a hundred of 50,000 in each window": {1000, 100, func(int) int { return rng.IntN(50_000) }},
		"ten of each of a thousand":          {100, 10_000, func(int) int { return rng.IntN(1000) }},
		"two of each of 10,000":              {50, 20_000, func(int) int { return rng.IntN(10_000) }},
	} {
		t.Run(name, func(t *testing.T) {
			if flushed, _, _ := windows(c.windows, c.samples, c.draw); len(flushed) > 0 {
				t.Errorf("flushed are %v", flushed)
			}
		})
	}
}

// What is too little in one window to say anything is much in many, and gets into the
// sets.
func TestWhatIsLittleInEachWindowAddsUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed, 4))
	for name, others := range map[string]int{"beside unique keys": 1 << 40, "beside 5,000 keys": 5000} {
		t.Run(name, func(t *testing.T) {
			flushed, drawn, v := windows(100, 100, func(int) int {
				if rng.IntN(50) == 0 {
					return -1
				}
				return rng.IntN(others)
			})
			// A few may have been forgotten for keys that had waited longer.
			if got := flushed["-1"] + v.rest()["-1"]; got > drawn["-1"] || got < drawn["-1"]*9/10 || flushed["-1"] < drawn["-1"]*3/4 {
				t.Errorf("%d of %d are flushed, %d wait", flushed["-1"], drawn["-1"], v.rest()["-1"])
			}
			if len(flushed) > 1 {
				t.Errorf("flushed are %v", flushed)
			}
		})
	}
}

// A few keys are all that there are: whichever are used are flushed, once it takes them.
func TestFewKeysAreFlushedWhole(t *testing.T) {
	flushed, drawn, v := windows(100, 20, func(w int) int { return w / 10 % 2 * 10 })
	flushedOf, drawnOf, _ := windows(100, 50, func(int) int { return rand.IntN(30) })
	for key, n := range drawn {
		if flushed[key]+v.rest()[key] != n {
			t.Errorf("%s: %d of %d", key, flushed[key], n)
		}
	}
	for key, n := range drawnOf {
		if flushedOf[key] < n-minSamples {
			t.Errorf("of thirty keys %s: %d of %d", key, flushedOf[key], n)
		}
	}
}

// A key that isn't used any more makes room in an hour's windows at the latest.
func TestWhatWaitsIsForgotten(t *testing.T) {
	var v evidence
	v.add(windowOf(4, 1, [2]uint64{4}), 1, 1)
	for range waitingWindows - 1 {
		v.add(windowOf(0, 0), 1, 1)
	}
	if got := v.rest()["0"]; got != 4 {
		t.Errorf("%d samples wait, want 4", got)
	}
	v.add(windowOf(0, 0), 1, 1)
	if len(v.waiting) != 0 {
		t.Errorf("there are still %v", v.waiting)
	}
}

// Of keys that were used alike none waits in vain because of its name.
func TestKeysThatWereUsedAlikeTakeTurns(t *testing.T) {
	var v evidence
	alike := windowOf(15, 3, [2]uint64{5}, [2]uint64{5}, [2]uint64{5})
	got := v.add(alike, 2, 1)
	if d := cmp.Diff(map[string]uint64{"0": 5, "1": 5}, got); d != "" {
		t.Errorf("of three as many as are asked for: -want +got\n%s", d)
	}
	if d := cmp.Diff(map[string]uint64{"2": 5}, v.rest()); d != "" {
		t.Errorf("the third waits: -want +got\n%s", d)
	}
	if got := v.add(windowOf(9, 3, [2]uint64{3}, [2]uint64{3}, [2]uint64{3}), 2, 1)["2"]; got != 8 {
		t.Errorf("and has %d the next time, want 8", got)
	}
	v = evidence{}
	if got := v.add(windowOf(14, 3, [2]uint64{5}, [2]uint64{5}, [2]uint64{4}), 2, 1); len(got) != 2 || len(v.rest()) != 0 {
		t.Errorf("%v are flushed, %v wait; the last was used less", got, v.rest())
	}
}

// Ten keys have half of all samples. What is ordinary is known by the others.
func TestVeryHotKeysHideNoOthers(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed, 5))
	next := 0
	flushed, _, _ := windows(60, 1000, func(int) int {
		switch r := rng.IntN(1000); {
		case r < 500:
			return -1 - r%10
		case r < 540:
			return -11 - r%20
		}
		next++
		return next
	})
	for key := 1; key <= 30; key++ {
		if flushed[fmt.Sprint(-key)] == 0 {
			t.Errorf("%d isn't flushed", -key)
		}
	}
	if len(flushed) > 30 {
		t.Errorf("%d are flushed", len(flushed))
	}
}
