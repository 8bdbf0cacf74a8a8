package pooler

import "sync"

// unsentBuffers are lent to lanes for which more has gathered than they keep memory for:
// of *[maxUnsent]byte.
var unsentBuffers sync.Pool

// outbox is what is to be written on a lane, and how far that has come. Guarded by
// Lane.mu.
type outbox struct {
	b        []byte // to be written
	spare    []byte
	writing  bool  // a goroutine is the writer
	appended int64 // bytes, since the beginning
	issued   int64 // bytes of those that may have been written
}

// overfull reports whether n bytes more have to wait for what is there.
func (o *outbox) overfull(n int) bool { return len(o.b) > 0 && len(o.b)+n > maxUnsent }

// add adds a request to what is to be written.
func (o *outbox) add(request []byte) {
	if size := len(o.b) + len(request); size > cap(o.b) && size > maxHeld && size <= maxUnsent {
		lent, _ := unsentBuffers.Get().(*[maxUnsent]byte)
		if lent == nil {
			lent = new([maxUnsent]byte)
		}
		small := o.b
		o.b = append(lent[:0], small...)
		o.reuse(small)
	}
	o.b = append(o.b, request...)
}

// take takes all that has gathered, to be written.
func (o *outbox) take() []byte {
	b := o.b
	o.b, o.spare = o.spare[:0], nil
	o.issued += int64(len(b))
	return b
}

// reuse keeps memory for what gathers next, or gives it back if it was lent.
func (o *outbox) reuse(b []byte) {
	switch {
	case cap(b) <= maxHeld:
		o.spare = b[:0]
	case cap(b) == maxUnsent:
		unsentBuffers.Put((*[maxUnsent]byte)(b[:maxUnsent]))
	}
}

// leave takes back that rest was issued; again says that it is to be written next.
func (o *outbox) leave(rest []byte, again bool) {
	o.issued -= int64(len(rest))
	if again {
		o.b = append(append(make([]byte, 0, len(rest)+len(o.b)), rest...), o.b...)
	}
}
