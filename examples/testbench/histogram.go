package main

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	stepBits = 4 // 16 buckets for each doubling: a quantile is off by 1/32 at most
	steps    = 1 << stepBits
	longest  = 1<<37 - 1 // nanoseconds, 137 s
	buckets  = (37-stepBits-1)*steps + 2*steps
)

// histogram counts durations in buckets that grow with the duration. It is safe for
// concurrent use; its zero value is empty.
type histogram struct {
	counts [buckets]atomic.Int64
}

// record counts one.
func (h *histogram) record(d time.Duration) { h.counts[bucketOf(d)].Add(1) }

// snapshot is what has been counted so far.
func (h *histogram) snapshot() *counts {
	var c counts
	for i := range c {
		c[i] = h.counts[i].Load()
	}
	return &c
}

// counts are those of a histogram at some moment, or between two.
type counts [buckets]int64

// since returns what was counted after the earlier snapshot.
func (c *counts) since(earlier *counts) *counts {
	var d counts
	for i := range c {
		d[i] = c[i] - earlier[i]
	}
	return &d
}

// quantile is the duration that a share q of all don't exceed; 1: the longest. It is 0
// if nothing was counted.
func (c *counts) quantile(q float64) time.Duration {
	var n, seen int64
	for _, count := range c {
		n += count
	}
	if n == 0 {
		return 0
	}
	rank := min(max(int64(math.Ceil(q*float64(n))), 1), n)
	for i, count := range c {
		if seen += count; seen >= rank {
			return middleOf(i)
		}
	}
	return longest
}

// bucketOf gives small durations buckets of their own, and others that of their highest
// bits.
func bucketOf(d time.Duration) int {
	v := uint64(min(max(d, 0), longest))
	shift := max(bits.Len64(v)-stepBits-1, 0)
	return shift<<stepBits + int(v>>shift)
}

func middleOf(bucket int) time.Duration {
	if bucket < 2*steps {
		return time.Duration(bucket)
	}
	shift := bucket>>stepBits - 1
	low := (bucket&(steps-1) + steps) << shift
	return time.Duration(low + 1<<shift/2)
}
