package gather

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// largeReply is how many bytes are too many for others to wait for.
const largeReply = 16 << 10

// large remembers keys whose replies were large, and families of keys that had several
// such. It may take one key for another, which costs little. The zero value is empty.
type large struct {
	any      atomic.Bool        // reply was large, ever
	keys     [256]atomic.Uint64 // hashes
	families [256]family
}

// family is keys that begin alike.
type family struct {
	hash  atomic.Uint64
	score atomic.Int32 // large replies, less the small ones since they are expected
}

// How many large replies make a family expected, and how many are counted at most.
const (
	familyExpected = 2
	familyMost     = 16
)

var seed = maphash.MakeSeed()

// expects reports whether the key's next reply may be large.
func (l *large) expects(key string) bool {
	if key == "" || !l.any.Load() {
		return false
	}
	if h := maphash.String(seed, key); l.keys[h%256].Load() == h {
		return true
	}
	f, h := l.family(key)
	return f.hash.Load() == h && f.score.Load() >= familyExpected
}

// note notes the size of a reply that was large or expected to be.
func (l *large) note(key string, size int) {
	if key == "" {
		return
	}
	h := maphash.String(seed, key)
	of := &l.keys[h%256]
	f, fh := l.family(key)
	if size > largeReply {
		l.any.Store(true)
		of.Store(h)
		if f.hash.Swap(fh) != fh {
			f.score.Store(0)
		}
		if f.score.Load() < familyMost {
			f.score.Add(1)
		}
		return
	}
	of.CompareAndSwap(h, 0)
	if f.hash.Load() == fh && f.score.Load() > 0 {
		f.score.Add(-1)
	}
}

// family is that of keys which are alike up to the first digit.
func (l *large) family(key string) (*family, uint64) {
	if i := strings.IndexAny(key, "0123456789"); i >= 0 {
		key = key[:i]
	}
	h := maphash.String(seed, key)
	return &l.families[h%256], h
}

// replies is how large replies of a line have been of late.
type replies struct{ sum atomic.Int64 } // of the last recent, about

const (
	recent     = 64      // replies that the mean is of
	firstReply = 1 << 10 // what a reply is taken for before any was seen

	// fullOfReplies is how many bytes of replies make a batch full. A server may have the
	// replies to all of a pipeline in its output buffer, and closes the connection at a
	// client-output-buffer-limit.
	fullOfReplies = 256 << 10
)

func (r *replies) begin() { r.sum.Store(recent * firstReply) }

// note notes the size of a reply. Of concurrent ones it may lose some.
func (r *replies) note(size int) {
	sum := r.sum.Load()
	r.sum.Store(sum - sum/recent + int64(size))
}

// fill reports whether replies to n commands are as much as a batch is to have.
func (r *replies) fill(n int) bool { return int64(n)*(r.sum.Load()/recent) >= fullOfReplies }
