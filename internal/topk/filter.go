package topk

import "math"

// filter bounds the counts of keys that aren't monitored. Each key has two cells, by
// its hash, and neither says less than the key's count. So the lower one bounds it,
// which is too high only if both are shared with keys that are used more.
type filter []cell

// cell is small, since bounds get lower with the number of cells.
type cell uint16

// full is what a cell says that can't say how much. No key that isn't monitored
// exceeds the smallest counter, which is the bound then.
const full = math.MaxUint16

// of returns the cells for a hash. There are 1<<29 at most, so that they are chosen
// by different bits.
func (f filter) of(hash uint64) (a, b *cell) {
	last := uint64(len(f) - 1)
	return &f[hash&last], &f[hash>>32&last]
}

// bound returns what a key with this hash doesn't exceed, or full.
func (f filter) bound(hash uint64) uint64 {
	a, b := f.of(hash)
	return min(uint64(*a), uint64(*b))
}

// raise lets the cells for a hash say no less than count. A cell that says more
// already is that of others: to add to it would raise their bounds for nothing.
func (f filter) raise(hash, count uint64) {
	a, b := f.of(hash)
	c := cell(min(count, full))
	*a, *b = max(*a, c), max(*b, c)
}

// keys returns of about how many keys the filter has heard. Of n cells n*exp(-2*keys/n)
// are expected to be empty.
func (f filter) keys() float64 {
	empty := 0
	for _, c := range f {
		if c == 0 {
			empty++
		}
	}
	n := float64(len(f))
	return n / 2 * math.Log(n/float64(max(empty, 1)))
}
