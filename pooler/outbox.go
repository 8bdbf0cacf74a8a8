package pooler

import "github.com/everpool/everpool/internal/lent"

// outbox is what is to be written on a lane, and how far that has come. Guarded by
// Lane.mu.
type outbox struct {
	b        []byte // to be written, in memory that is lent
	writing  bool   // a goroutine is the writer
	appended int64  // bytes, since the beginning
	issued   int64  // bytes of those that may have been written
}

// overfull reports whether n bytes more have to wait for what is there.
func (o *outbox) overfull(n int) bool { return len(o.b) > 0 && len(o.b)+n > maxUnsent }

// add adds a request to what is to be written.
func (o *outbox) add(request []byte) { o.b = append(lent.Grow(o.b, len(request)), request...) }

// take takes all that has gathered, to be written and given back.
func (o *outbox) take() []byte {
	b := o.b
	o.b = nil
	o.issued += int64(len(b))
	return b
}

// leave takes back that rest was issued; again says that it is to be written next.
func (o *outbox) leave(rest []byte, again bool) {
	o.issued -= int64(len(rest))
	if again {
		o.b = append(append(make([]byte, 0, len(rest)+len(o.b)), rest...), o.b...)
	}
}
