// Package lent has memory for bytes that are there for a short time, such as requests that
// gather and replies that wait for their reader: lent for that time, and used again.
package lent

import "sync"

// The sizes of what is lent. A buffer is lost to the garbage collector now and then, which
// costs as much as it is large, so that they are no larger than four times what was asked for.
const (
	size0 = 4 << 10
	size1 = 4 * size0
	size2 = 4 * size1
	size3 = 4 * size2

	// Most is the largest size. What is larger is made anew each time.
	Most = 4 * size3
)

var pool0, pool1, pool2, pool3, pool4 sync.Pool // of pointers to arrays of these sizes

// Buffer returns an empty slice with room for at least n bytes. Safe for concurrent use, as
// Back is.
func Buffer(n int) []byte {
	switch {
	case n <= size0:
		if a, _ := pool0.Get().(*[size0]byte); a != nil {
			return a[:0]
		}
		n = size0
	case n <= size1:
		if a, _ := pool1.Get().(*[size1]byte); a != nil {
			return a[:0]
		}
		n = size1
	case n <= size2:
		if a, _ := pool2.Get().(*[size2]byte); a != nil {
			return a[:0]
		}
		n = size2
	case n <= size3:
		if a, _ := pool3.Get().(*[size3]byte); a != nil {
			return a[:0]
		}
		n = size3
	case n <= Most:
		if a, _ := pool4.Get().(*[Most]byte); a != nil {
			return a[:0]
		}
		n = Most
	}
	return make([]byte, 0, n)
}

// Back takes a slice back that Buffer has returned, whatever was appended to it: nobody may
// use it any more, nor a part of it. What has no size of Buffer's isn't kept.
func Back(b []byte) {
	switch cap(b) {
	case size0:
		pool0.Put((*[size0]byte)(b[:size0]))
	case size1:
		pool1.Put((*[size1]byte)(b[:size1]))
	case size2:
		pool2.Put((*[size2]byte)(b[:size2]))
	case size3:
		pool3.Put((*[size3]byte)(b[:size3]))
	case Most:
		pool4.Put((*[Most]byte)(b[:Most]))
	}
}

// Grow returns b with room for n bytes more, in other memory if it has none. b is given back
// then. What is larger than is lent doubles, as with append: a reply that is held may be of
// any size, and comes in small pieces.
func Grow(b []byte, n int) []byte {
	size := len(b) + n
	if size <= cap(b) {
		return b
	}
	if size > Most {
		size = max(size, 2*cap(b))
	}
	grown := append(Buffer(size), b...)
	Back(b)
	return grown
}
