package pooler

import (
	"bytes"
	"math"

	"github.com/everpool/everpool/internal/resp"
)

// inbox is what a connection has read and nobody has received yet, and where in the
// stream of replies that is. No lock, no I/O; owner: the goroutine that calls Receive.
type inbox struct {
	own      []byte // the connection's memory
	buf      []byte // buf[r:w] comes next: own, or until withdraw a receiver's memory
	r, w     int
	scan     resp.ReplyScanner
	scratch  []byte // for what nobody wants
	errHead  []byte // the beginning of the last error reply; no memory before the first
	sawReply bool
}

func newInbox() inbox {
	own := make([]byte, readBuffer)
	return inbox{own: own, buf: own}
}

// release gives the memory back: nobody reads any more.
func (in *inbox) release() { in.own, in.buf, in.scratch = nil, nil, nil }

func (in *inbox) empty() bool { return in.r == in.w }

// next is what comes next.
func (in *inbox) next() []byte { return in.buf[in.r:in.w] }

// space is memory that more may be read into, behind what is there, which must be own.
func (in *inbox) space() []byte {
	if in.empty() {
		in.r, in.w = 0, 0
	}
	return in.own[in.w:]
}

// refill returns the memory to read into when nothing is there any more: own, or with
// inPlace p.
func (in *inbox) refill(p []byte, inPlace bool) []byte {
	if len(in.own) > readBuffer {
		in.own = make([]byte, readBuffer)
	}
	if in.buf = in.own; inPlace {
		in.buf = p[:min(len(p), inPlaceUpTo)]
	}
	in.r, in.w = 0, 0
	return in.buf
}

// withdraw takes what is there into own.
func (in *inbox) withdraw() {
	if len(in.buf) > 0 && &in.buf[0] != &in.own[0] {
		rest := in.next()
		if len(rest) > len(in.own) {
			in.own = make([]byte, len(rest)) // until it is received
		}
		in.r, in.w = 0, copy(in.own, rest)
		in.buf = in.own
	}
}

// pass moves n bytes of what comes next to p.
func (in *inbox) pass(p []byte, n int) int {
	n = move(p, in.buf[in.r:in.r+n])
	in.r += n
	return n
}

// move is copy, unless what is to be copied is there already.
func move(to, from []byte) int {
	if len(to) > 0 && len(from) > 0 && &to[0] == &from[0] {
		return min(len(to), len(from))
	}
	return copy(to, from)
}

// atPush reports whether the next byte belongs to a push.
func (in *inbox) atPush() bool {
	if in.scan.InFrame() {
		return in.scan.Kind() == '>'
	}
	return in.buf[in.r] == '>'
}

// dropping reports whether the frame under way is a push.
func (in *inbox) dropping() bool { return in.scan.InFrame() && in.scan.Kind() == '>' }

// bulkLeft is how much is to come of the string under way in a reply.
func (in *inbox) bulkLeft() int64 {
	if in.dropping() {
		return 0
	}
	return in.scan.BulkRemaining()
}

// rest is about how much is to come of so many replies, as far as those before tell, which
// were done and what has come of all.
func (in *inbox) rest(came, done, left int64) int64 {
	if in.dropping() {
		return 0
	}
	rest := in.scan.Remaining()
	if in.scan.InFrame() {
		left, done = left-1, done+1
	}
	if left > 0 {
		rest += int64(min(float64(left)*float64(came+rest)/float64(max(done, 1)), math.MaxInt64/4))
	}
	return rest
}

// errorHead is how much of an error reply is remembered: a redirection to the longest
// name there is, and a byte more, so that what is cut is no name.
const errorHead = len("-MOVED 16383 ") + maxAddress + 1

// maxAddress is the longest name of a host, with its port.
const maxAddress = 255 + len(":65535")

// noteError remembers the beginning of a simple error, of which b comes next.
func (in *inbox) noteError(b []byte) {
	if !in.scan.InFrame() {
		if in.errHead = in.errHead[:0]; b[0] != '-' {
			return
		}
	} else if in.scan.Kind() != '-' || len(in.errHead) == 0 || len(in.errHead) == errorHead {
		return
	}
	if i := bytes.IndexByte(b, '\r'); i >= 0 {
		b = b[:i]
	}
	in.errHead = append(in.errHead, b[:min(len(b), errorHead-len(in.errHead))]...)
}
