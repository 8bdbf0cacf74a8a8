// Package topk summarises the most frequent keys of a stream in constant memory.
package topk

import (
	"hash/maphash"
	"math"
	"strings"
)

const (
	// cellsPerCounter is the least number of filter cells for each counter. The
	// paper recommends several; on a stream with little skew the error shrinks
	// with the number of cells, and so many take no more memory than a counter.
	cellsPerCounter = 32
	// maxCounters bounds m, so that all indices fit in an int32.
	maxCounters = 1 << 24
)

// seed is random, so that nobody outside the process can choose keys that collide.
var seed = maphash.MakeSeed()

// Sketch estimates how often each key occurs in a stream, and finds the keys
// that occur most. It implements Filtered Space-Saving (Homem & Carvalho,
// "Finding top-k elements in data streams", 2010): a counter for each of m
// monitored keys, and before them a filter of hashed cells, each an upper bound
// for all keys in it that aren't monitored. A key takes the smallest counter once
// the bound of its cells exceeds that counter. Unlike in the paper a key has two
// cells, which are small: the lower one bounds it, and is far less often too high.
//
// After any sequence of Add:
//
//   - For every key, monitored or not, lower <= true count <= upper, where
//     lower and upper are what Bounds returns.
//   - Every key with a true count above Total/m is monitored.
//   - Total is exact.
//
// Sums that would overflow stay at the largest uint64 instead of wrapping. The
// bounds then hold for true counts that saturate likewise, and the second
// guarantee ends when Total saturates.
//
// Use New to make one. Not safe for concurrent use.
type Sketch struct {
	m        int
	counters []counter // at most m, in no order
	heap     []int32   // positions in counters, the first to replace on top
	buckets  []int32   // by hash: position of the first counter of a chain, or none
	cells    filter    // bounds the keys that aren't monitored
	total    uint64
}

// Entry is a monitored key with the estimate of how often it was added.
type Entry struct {
	// Key is the key.
	Key string
	// Count is the upper bound for the true count.
	Count uint64
	// Error is the error bound: the true count is in [Count-Error, Count].
	Error uint64
}

// Lower returns the lower bound for the true count, Count-Error.
func (e Entry) Lower() uint64 { return e.Count - e.Error }

// New returns an empty sketch that monitors up to m keys. All its memory but the
// keys is allocated here: with m = 320 and keys of 24 bytes, 58 KiB in total. To
// find the top K keys, take m = 10*K. The filter has 32*m cells of two bytes, rounded
// up to a power of two.
//
// New panics unless 1 <= m <= 1<<24.
func New(m int) *Sketch {
	if m < 1 || m > maxCounters {
		panic("topk: the number of monitored keys must be from 1 to 1<<24")
	}
	return newSketch(m, powerOfTwo(cellsPerCounter*m), powerOfTwo(m))
}

// newSketch returns an empty sketch; cells and buckets are powers of two.
func newSketch(m, cells, buckets int) *Sketch {
	s := &Sketch{
		m:        m,
		counters: make([]counter, 0, m),
		heap:     make([]int32, 0, m),
		buckets:  make([]int32, buckets),
		cells:    make(filter, cells),
	}
	s.clearBuckets()
	return s
}

// Add counts n more occurrences of key; with n = 0 it does nothing. It clones
// key when it begins to monitor it, so the caller may reuse the bytes of key, and
// allocates nothing otherwise.
//
// It returns the slot of the key, below m and its own while it is monitored, for what
// the caller keeps about it, and whether that was another's until now; the slot is
// NoSlot if the key isn't monitored, or n is 0.
func (s *Sketch) Add(key string, n uint64) (slot int, admitted bool) {
	if n == 0 {
		return NoSlot, false
	}
	s.total = saturatingAdd(s.total, n)
	hash := maphash.String(seed, key)
	if i := s.find(hash, key); i != none {
		c := &s.counters[i]
		c.count = saturatingAdd(c.count, n)
		s.down(int(c.pos))
		return int(i), false
	}
	earlier := s.filtered(hash)
	count := saturatingAdd(earlier, n)
	if count <= s.floor() {
		// The paper admits on equal counts as well. That doubles the number of
		// admissions, each with a clone, and finds the top keys no better.
		s.cells.raise(hash, count)
		return NoSlot, false
	}
	// All earlier occurrences may have been those of others in the cells.
	return s.admit(counter{key: strings.Clone(key), hash: hash, count: count, err: earlier}), true
}

// NoSlot is the slot of a key that isn't monitored.
const NoSlot = none

// Slot returns the slot of key.
func (s *Sketch) Slot(key string) int { return int(s.find(maphash.String(seed, key), key)) }

// admit begins to monitor the key of c, in place of the smallest counter if all
// are taken, and returns its slot.
func (s *Sketch) admit(c counter) int {
	if len(s.counters) < s.m {
		i := int32(len(s.counters))
		s.counters = append(s.counters, c)
		s.heap = append(s.heap, i)
		s.link(i)
		s.up(len(s.heap) - 1)
		return int(i)
	}
	i := s.heap[0]
	s.unlink(i)
	s.cells.raise(s.counters[i].hash, s.counters[i].count) // its key isn't monitored any more
	s.counters[i] = c
	s.link(i)
	s.down(0)
	return int(i)
}

// filtered returns the upper bound for a key that isn't monitored.
func (s *Sketch) filtered(hash uint64) uint64 {
	bound := s.cells.bound(hash)
	if bound == full {
		bound = s.floor()
	}
	return bound
}

// Bounds returns the lower and the upper bound for the true count of key. Unless
// key is monitored, lower is 0 and upper is what its filter cells say.
func (s *Sketch) Bounds(key string) (lower, upper uint64) {
	count, err := s.bounds(maphash.String(seed, key), key)
	return count - err, count
}

// bounds returns the upper bound and the error bound for key.
func (s *Sketch) bounds(hash uint64, key string) (count, err uint64) {
	if i := s.find(hash, key); i != none {
		return s.counters[i].count, s.counters[i].err
	}
	upper := s.filtered(hash)
	return upper, upper
}

// Total returns the sum of all n added.
func (s *Sketch) Total() uint64 { return s.total }

// Len returns the number of monitored keys.
func (s *Sketch) Len() int { return len(s.counters) }

// Keys returns about how many different keys were added: exactly that as long as all
// are monitored, and too few once there are several times as many as there are cells.
func (s *Sketch) Keys() float64 {
	keys := s.cells.keys()
	for i := range s.counters {
		// A key with an error was in the filter before it was monitored.
		if s.counters[i].err == 0 {
			keys++
		}
	}
	return keys
}

// floor returns what no key exceeds that isn't monitored.
func (s *Sketch) floor() uint64 {
	if len(s.counters) < s.m {
		return 0
	}
	return s.counters[s.heap[0]].count
}

// Reset empties the sketch and keeps its memory, save that of the keys.
func (s *Sketch) Reset() {
	clear(s.counters) // lets go of the keys
	s.counters = s.counters[:0]
	s.heap = s.heap[:0]
	s.clearBuckets()
	clear(s.cells)
	s.total = 0
}

// saturatingAdd returns a+b, or the largest uint64 if that overflows.
func saturatingAdd(a, b uint64) uint64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return math.MaxUint64
}

// powerOfTwo returns the least power of two that is at least n.
func powerOfTwo(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}
