package topk

import (
	"hash/maphash"
	"math"
	"strconv"
	"sync"
	"testing"
)

// exact is a sketch and, beside it, the true counts.
type exact struct {
	sketch *Sketch
	slots  map[int]string // what was last admitted to each
	truth  map[string]uint64
}

func newExact(s *Sketch) *exact {
	return &exact{sketch: s, truth: make(map[string]uint64), slots: make(map[int]string)}
}

func (e *exact) add(key string, n uint64) {
	if slot, admitted := e.sketch.Add(key, n); admitted {
		e.slots[slot] = key
	}
	if n > 0 {
		e.truth[key] = saturatingAdd(e.truth[key], n)
	}
}

func (e *exact) reset() {
	e.sketch.Reset()
	clear(e.truth)
	clear(e.slots)
}

func (e *exact) check(tb testing.TB) {
	tb.Helper()
	checkSketch(tb, e.sketch, e.truth)
	for key := range e.truth {
		if slot := e.sketch.Slot(key); slot != NoSlot && e.slots[slot] != key {
			tb.Fatalf("%q has slot %d, to which %q was admitted", key, slot, e.slots[slot])
		}
	}
	if len(e.slots) != e.sketch.Len() {
		tb.Fatalf("%d slots, %d keys", len(e.slots), e.sketch.Len())
	}
}

// fuzzKeys are four keys for each value of the lowest three bits of the hash: the bits
// that choose their other cell have the same value, a second one in two of them, and a
// third. The seed differs from process to process, and the keys with it, but not which
// of them collide in up to eight cells or buckets: what the fuzzer finds fails again.
var fuzzKeys = sync.OnceValue(func() [32]string {
	var keys [32]string
	next := 0
	for i := range keys {
		first := uint64(i / 4)
		second := (first + uint64([]int{0, 1, 1, 2}[i%4])) % 8
		for keys[i] == "" {
			key := strconv.Itoa(next)
			next++
			if hash := maphash.String(seed, key); hash%8 == first && hash>>32%8 == second {
				keys[i] = key
			}
		}
	}
	return keys
})

// FuzzSketch runs any sequence of operations on a sketch and checks it after each. The first byte says how large they are, each two bytes after that
// are an operation. The filters are so small that most keys collide.
func FuzzSketch(f *testing.F) {
	f.Add([]byte("\x00 ,!,\",#,$,%,&,',(,)"))
	f.Add([]byte("\x13a1b2c3d4e5f6g7h8\x10\x00i1j2k3l4m5\x11\x00n6o7p8q9"))
	f.Add([]byte("\xfb1a1b1c1d1e1f1g1h1i2a2b2c2d2e2f2g2h\x20\x001a1b1c1d\x13\x00\x24\x002z\x20\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || len(data) > 1024 {
			return
		}
		size := int(data[0])
		m, cells, buckets := 1+size%8, 1<<(size/8%4), 1<<(size/32%4)
		a := newExact(newSketch(m, cells, buckets))
		for ops := data[1:]; len(ops) >= 2; ops = ops[2:] {
			operate(a, ops[0], ops[1])
			a.check(t)
		}
	})
}

// operate does what two bytes say.
func operate(a *exact, op, arg byte) {
	key := fuzzKeys()[arg%32]
	switch op % 16 {
	case 2:
		a.add(key, math.MaxUint64>>(op/16%8))
	case 3:
		a.reset()
	case 4:
		a.add(key, uint64(arg)*uint64(op))
	default:
		a.add(key, uint64(op%16/5))
	}
}
