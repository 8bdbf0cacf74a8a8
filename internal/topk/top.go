package topk

import (
	"cmp"
	"slices"
	"strings"
)

// Top appends to dst up to n entries, the highest Count first and equal counts in
// order of their keys, and returns the extended slice. It allocates only if dst
// lacks the room.
func (s *Sketch) Top(dst []Entry, n int) []Entry {
	n = min(n, len(s.counters))
	if n <= 0 {
		return dst
	}
	start := len(dst)
	dst = slices.Grow(dst, n)
	for i := range s.counters {
		c := &s.counters[i]
		e := Entry{Key: c.key, Count: c.count, Error: c.err}
		at, _ := slices.BinarySearchFunc(dst[start:], e, compareEntries)
		if at == n {
			continue
		}
		dst = dst[:min(len(dst), start+n-1)] // drops the last if it is one too many
		dst = slices.Insert(dst, start+at, e)
	}
	return dst
}

// compareEntries orders entries as Top does.
func compareEntries(a, b Entry) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Key, b.Key))
}
