package hotkey

import (
	"cmp"
	"slices"
)

const (
	// waitingPerTop is how many keys of a class may wait for more evidence, for each
	// of the top N.
	waitingPerTop = 2
	// waitingWindows is for how many windows a key may wait: an hour of the default's.
	waitingWindows = 360
)

// evidence is about the keys of a class that haven't been flushed since they were seen.
// What is little in a window may be much in many, and in many programs, so it
// isn't decided by one window alone which keys are significant in the sets.
type evidence struct {
	windows  int     // so far
	samples  float64 // of them
	ordinary float64 // of these for each key, were all keys used alike
	waiting  []sighting
}

// sighting is a key that waits.
type sighting struct {
	key           string
	samples, uses uint64  // by what the sketch vouches for
	window        int     // the first with any
	ordinary      float64 // before that
}

// add adds the first n keys of a window, and those that were used as often as the last
// of them, and returns what is to be flushed of it and of those before it, in uses, for
// up to n keys.
func (v *evidence) add(w *window, n int, perSample float64) map[string]uint64 {
	before, ordinary := v.ordinary, w.ordinary()
	v.windows++
	v.samples += float64(w.samples)
	v.ordinary += ordinary
	keys := v.samples / max(1, v.ordinary)
	// Whether there are no more keys than are counted is known by how often they have
	// returned: of many keys a short window samples few, and others than the next one.
	few := float64(w.samples) <= ordinary*float64(n*countersPerTop)
	seen := v.byKey()
	counts := make(map[string]uint64)
	first := those(w.entries, len(w.entries), isVouched)
	for i, e := range first {
		if i >= n && e.Count < first[n-1].Count {
			break
		}
		s, waited := seen[e.Key]
		if !waited {
			s = sighting{key: e.Key, window: v.windows, ordinary: before}
		}
		s.samples = saturating(s.samples, e.Lower())
		s.uses = saturating(s.uses, scaled(float64(e.Lower()), perSample))
		if len(counts) < n && s.samples >= minSamples && (few || standsOut(float64(s.samples), v.ordinary-s.ordinary, keys)) {
			counts[e.Key] = s.uses
			delete(seen, e.Key)
		} else {
			seen[e.Key] = s
		}
	}
	v.wait(seen, n*waitingPerTop)
	return counts
}

func (v *evidence) byKey() map[string]sighting {
	seen := make(map[string]sighting, len(v.waiting))
	for _, s := range v.waiting {
		seen[s.key] = s
	}
	return seen
}

// wait keeps those with the most samples, of equal ones those that came last.
func (v *evidence) wait(seen map[string]sighting, limit int) {
	v.waiting = v.waiting[:0]
	for _, s := range seen {
		if v.windows-s.window >= waitingWindows {
			continue
		}
		at, _ := slices.BinarySearchFunc(v.waiting, s, func(a, b sighting) int {
			return cmp.Or(cmp.Compare(b.samples, a.samples), cmp.Compare(b.window, a.window), cmp.Compare(a.key, b.key))
		})
		if at < limit {
			v.waiting = slices.Insert(v.waiting[:min(len(v.waiting), limit-1)], at, s)
		}
	}
	clear(v.waiting[len(v.waiting):cap(v.waiting)]) // lets go of the keys
}

// rest is all that waits. There will be no more evidence.
func (v *evidence) rest() map[string]uint64 {
	counts := make(map[string]uint64, len(v.waiting))
	for _, s := range v.waiting {
		counts[s.key] = s.uses
	}
	return counts
}
