package hotkey

import "math"

// minSamples is how many samples a key must surely have of its own to be shown. It
// takes that many for a count to say more than that the key was used.
const minSamples = 5

// alike is by how much the uses of keys may differ that count as used alike: with
// many samples any difference is more than chance, and a small one makes no key hot.
const alike = 1.25

// odds are those that a key is shown of a window where all are used alike, at most.
const odds = 0.05

// significant are the up to n most used keys whose counts say something. Half of such a
// count is surely the key's own, and that is more than chance would give it were it
// used like the rest of the keys, those left that aren't shown before it. If every key is
// counted there is no rest that it could be one of, and those that are used are shown.
func (w *window) significant(n int) []entry {
	samples, keys := float64(w.samples), w.keys
	all := w.complete()
	return those(w.entries, n, func(e entry) bool {
		own := float64(e.Lower())
		if own < minSamples || !isVouched(e) || !all && !standsOut(own, samples/keys-1, keys) {
			return false
		}
		samples, keys = samples-own, keys-1
		return true
	})
}

// complete reports whether every key that was sampled is counted.
func (w *window) complete() bool { return w.keys <= float64(len(w.entries)) }

// ordinary is how many samples of the window a key is expected to have, at most, if
// the samples are of keys used alike, but for those that surely aren't. If that is x, a
// share of 1-exp(-x) of the keys was sampled at all, and those x/(1-exp(-x)) times, which
// is between x and 1+x/2, and more.
func (w *window) ordinary() float64 {
	samples, keys := float64(w.samples), w.keys
	for _, e := range w.significant(len(w.entries)) {
		samples, keys = samples-float64(e.Lower()), keys-1
	}
	if samples <= 0 || keys <= 0 {
		return 0
	}
	return max(0, min(samples/keys, 2*(samples/keys-1)))
}

// standsOut reports whether n samples are more than chance is likely to give to any of so
// many keys, where those have had the given number of samples each, beyond the first.
func standsOut(n, others, keys float64) bool {
	// One sample of each is how they are known. The others come by chance, and are
	// distributed as Poisson says.
	n, mean := n-1, alike*max(0, others)
	// A key has n or more with a probability of less than exp(-surprise), by Chernoff's bound.
	// So any of them does with a probability of less than keys*exp(-surprise).
	surprise := n*math.Log(n/mean) - n + mean
	return n > mean && surprise > math.Log(keys/odds)
}

// isVouched reports whether the sketch vouches for at least half of a count, whatever
// chance there is in the sampling.
func isVouched(e entry) bool { return e.Lower() >= e.Error }
