package resp

import "math"

// state is what a scanner expects next.
type state uint8

const (
	atType state = iota // the type byte of a value

	// A line of text or a number that is itself the value.
	inText
	atInteger      // sign or digit
	atIntegerDigit // the digit after a sign
	inInteger
	atDouble     // sign, digit, point or word
	atDoubleSign // what follows a sign
	inDouble
	atInfN // inf
	atInfF
	atNanA // nan
	atNanN
	atBool
	atCR // of a line that can't go on
	atLF // of a line that is a value

	// The line of a bulk string or aggregate, and a bulk's body.
	atLength // first digit, or '-'
	atNull   // the 1 of "-1"
	inLength
	atLengthCR // of a request's length 0
	atLengthLF
	inBody
	atBodyCR
	atBodyLF
)

// A ReplyScanner finds the boundaries of the replies in a stream. Its zero value
// stands before the first reply. It isn't safe for concurrent use. It may be
// copied: a copy goes on independently from the same place.
type ReplyScanner struct {
	offset int64 // of the next byte in the stream
	num    int64 // the length being read, then what is left of the bulk's body
	line   int64 // bytes of the line after its type byte
	fault  fault
	state  state
	typ    byte // of the value being read
	kind   byte
	within bool    // a frame has begun and not ended
	attr   int     // depth of the open attribute, 0: none is open
	left   []int32 // values still to come, per open aggregate
	began  int64   // where in the stream the current reply did
	values int32   // of its outermost aggregate
}

// keepDepth is for how many aggregates inside each other a scanner keeps memory. More come
// of scripts at most.
const keepDepth = 64

// Scan consumes the bytes of p up to and including the end of the current
// top-level reply. It returns how many it consumed and whether the reply ended
// there. If done is false and err is nil, all of p was consumed and the reply
// goes on; after done the next Scan begins a new reply. Scan never looks past the
// end of the reply.
//
// On failure n is the number of bytes before the first wrong one, and the
// scanner stays failed: it consumes nothing and returns an equal [*Error] until
// Reset.
func (s *ReplyScanner) Scan(p []byte) (n int, done bool, err error) {
	if s.fault.why != fine {
		return 0, false, s.fault.err()
	}
	if !s.within {
		if n := wholeBulk(p); n > 0 {
			s.kind = '$'
			s.offset += int64(n)
			return n, true, nil
		}
	}
	n, done, why := s.scan(p)
	s.offset += int64(n)
	if why != fine {
		s.fault = fault{offset: s.offset, why: why, got: p[n]}
		return n, false, s.fault.err()
	}
	return n, done, nil
}

// wholeBulk returns the length of the bulk string that p begins with, if all of it is
// there, as most are; else 0, and the state machine looks at it.
func wholeBulk(p []byte) int {
	if len(p) < 6 || p[0] != '$' {
		return 0
	}
	// Most are of 10 to 99 bytes, of which an aggregate may have thousands.
	size, start := int(p[1]-'0')*10+int(p[2]-'0'), 5
	if p[3] != '\r' || p[4] != '\n' || p[1]-'1' > 8 || p[2]-'0' > 9 {
		if size, start = shortNumber(p, 1); start == 0 {
			return 0
		}
	}
	end := start + size
	if end+1 >= len(p) || p[end] != '\r' || p[end+1] != '\n' {
		return 0
	}
	return end + 2
}

// bulks takes off the open aggregate the bulk strings that p begins with, as far as all of
// them is there and another value follows them in it, and returns their length.
func (s *ReplyScanner) bulks(p []byte) (n int) {
	left := &s.left[len(s.left)-1]
	for *left > 1 {
		bulk := wholeBulk(p[n:])
		if bulk == 0 {
			break
		}
		n += bulk
		*left--
	}
	return n
}

// Kind returns the type byte of the current top-level reply, or after done of
// the one that just ended; 0 before the first byte of the stream. An attribute
// belongs to the reply that follows it: Kind is '|' until that reply's own type
// byte is seen.
func (s *ReplyScanner) Kind() byte { return s.kind }

// InFrame reports whether a reply has begun and not ended.
func (s *ReplyScanner) InFrame() bool { return s.within }

// BulkRemaining returns how many bytes of the current bulk string's body, its
// CRLF not counted, are still to come; 0 outside a body. The caller may read so
// many bytes straight to where they are wanted, and then Scan or Skip them.
func (s *ReplyScanner) BulkRemaining() int64 {
	if s.state != inBody {
		return 0
	}
	return s.num
}

// Remaining returns about how many bytes of the current reply are still to come: of an
// aggregate's values it takes those to come for as large as those before them.
func (s *ReplyScanner) Remaining() int64 {
	rest := s.BulkRemaining()
	if len(s.left) == 0 {
		return rest
	}
	more := s.left[0]
	if s.state != atType || len(s.left) > 1 {
		more-- // one has begun
	}
	each := float64(s.offset-s.began+rest) / float64(max(s.values-more, 1))
	return rest + int64(min(float64(more)*each, math.MaxInt64/4))
}

// Skip advances over n bytes of a bulk string's body without looking at them. It
// panics if n is negative or more than BulkRemaining.
func (s *ReplyScanner) Skip(n int64) {
	if n < 0 || n > s.BulkRemaining() {
		panic("resp: Skip beyond the bulk string's body")
	}
	s.offset += n
	s.skipBody(n)
}

// Reset makes the scanner as new.
func (s *ReplyScanner) Reset() { *s = ReplyScanner{} }

// scan is the state machine. It returns the index after the last byte consumed;
// if there is a reason, that is the index of the wrong byte.
func (s *ReplyScanner) scan(p []byte) (int, bool, reason) {
	for i := 0; i < len(p); {
		c := p[i]
		switch s.state {
		case atType:
			if c == '$' && len(s.left) > 0 {
				if n := s.bulks(p[i:]); n > 0 {
					i += n
					continue
				}
			}
			if why := s.begin(c); why != fine {
				return i, false, why
			}
			i++

		case inText:
			n, why := s.text(p[i:])
			i += n
			if why != fine {
				return i, false, why
			}

		case inLength:
			if c != '\r' {
				if why := s.digit(c); why != fine {
					return i, false, why
				}
			} else {
				s.state = atLengthLF
			}
			i++

		case atLengthLF:
			if c != '\n' {
				return i, false, badLF
			}
			i++
			if s.open() {
				return i, true, fine
			}

		case inBody:
			n := min(s.num, int64(len(p)-i))
			s.skipBody(n)
			i += int(n)

		case atBodyCR:
			if c != '\r' {
				return i, false, badBodyEnd
			}
			i++
			s.state = atBodyLF

		case atLF, atBodyLF:
			if c != '\n' {
				return i, false, badLF
			}
			i++
			if s.complete() {
				return i, true, fine
			}

		default:
			if why := s.step(c); why != fine {
				return i, false, why
			}
			i++
		}
	}
	return len(p), false, fine
}

// begin takes a type byte. Everything that depends on where a value stands is
// decided here, so that an error points at the value's first byte.
func (s *ReplyScanner) begin(c byte) reason {
	var next state
	switch c {
	case '+', '-':
		next = inText
	case ':', '(':
		next = atInteger
	case ',':
		next = atDouble
	case '#':
		next = atBool
	case '_':
		next = atCR
	case '$', '=', '!', '*', '%', '~', '>', '|':
		if why := s.mayOpen(c); why != fine {
			return why
		}
		next = atLength
	case ';', '.':
		return streamed
	default:
		return badReplyType
	}
	if len(s.left) == 0 {
		s.kind = c
		if !s.within {
			s.began = s.offset
		}
	}
	s.within = true
	s.typ, s.state, s.line, s.num = c, next, 0, 0
	return fine
}

// mayOpen says whether a value with a length may stand here.
func (s *ReplyScanner) mayOpen(c byte) reason {
	switch {
	case isBulk(c):
		return fine
	case c == '>' && len(s.left) > 0:
		return nestedPush
	case c == '|' && s.attr > 0:
		// No server sends it, and go-redis skips attributes by a routine that
		// would take the inner one for a value and lose its place.
		return nestedAttribute
	case len(s.left) == maxDepth:
		return tooDeep
	}
	return fine
}

// text consumes a line up to and including its CR.
func (s *ReplyScanner) text(p []byte) (int, reason) {
	n := 0
	for n < len(p) && p[n] != '\r' && p[n] != '\n' {
		n++
	}
	if room := maxLine - s.line; int64(n) > room {
		return int(room), lineTooLong
	}
	s.line += int64(n)
	if n == len(p) {
		return n, fine
	}
	if p[n] == '\n' {
		return n, bareLF
	}
	s.state = atLF
	return n + 1, fine
}

// digit adds one to a length. The limits are tested at each, so that nothing
// overflows and an absurd length is refused before the line's end.
func (s *ReplyScanner) digit(c byte) reason {
	d := c - '0'
	if d > 9 {
		return notLength(c)
	}
	s.num = s.num*10 + int64(d)
	if s.num > maxElements/2 {
		if why := tooMany(s.typ, s.num); why != fine {
			return why
		}
	}
	return s.lengthen(maxNumber, numberTooLong)
}

// notLength names what is wrong with a byte in the place of a length's digit.
func notLength(c byte) reason {
	if c == '\n' {
		return bareLF
	}
	return badLength
}

// tooMany tests a length against the limit of its type.
func tooMany(typ byte, n int64) reason {
	switch {
	case isBulk(typ):
		if n > maxBulk {
			return bulkTooLong
		}
	case elements(typ, n) > maxElements:
		return tooManyElements
	}
	return fine
}

// elements is how many values an aggregate of length n holds.
func elements(typ byte, n int64) int64 {
	if typ == '%' || typ == '|' {
		return 2 * n
	}
	return n
}

func isBulk(typ byte) bool { return typ == '$' || typ == '=' || typ == '!' }

// lengthen counts a byte of the line.
func (s *ReplyScanner) lengthen(limit int64, why reason) reason {
	if s.line++; s.line > limit {
		return why
	}
	return fine
}

// open is called after the line of a value with a length. It reports whether the
// top-level reply ends there.
func (s *ReplyScanner) open() bool {
	if isBulk(s.typ) {
		s.state = inBody
		s.skipBody(0)
		return false
	}
	if s.num == 0 {
		if s.typ == '|' {
			s.state = atType // the value that it belongs to is still to come
			return false
		}
		return s.complete()
	}
	if n := int32(elements(s.typ, s.num)); len(s.left) == 0 {
		s.left, s.values = append(s.left, n), n
	} else {
		s.left = append(s.left, n)
	}
	if s.typ == '|' {
		s.attr = len(s.left)
	}
	s.state = atType
	return false
}

// skipBody takes n bytes off the body that is left.
func (s *ReplyScanner) skipBody(n int64) {
	if s.num -= n; s.num == 0 && s.state == inBody {
		s.state = atBodyCR
	}
}

// complete is called when a value has ended. It closes the aggregates that end
// with it, and reports whether the top-level reply does.
func (s *ReplyScanner) complete() bool {
	s.state = atType
	for len(s.left) > 0 {
		top := len(s.left) - 1
		if s.left[top]--; s.left[top] > 0 {
			return false
		}
		s.left = s.left[:top]
		if s.attr > top {
			s.attr = 0
			return false // an attribute isn't a value: its reply is still to come
		}
	}
	s.within = false
	if cap(s.left) > keepDepth {
		s.left = nil
	}
	return true
}

// step takes one byte of a value that is rare or short.
func (s *ReplyScanner) step(c byte) reason {
	switch s.state {
	case atLength, atNull:
		return s.stepLength(c)
	case atInteger, atIntegerDigit, inInteger:
		return s.stepInteger(c)
	case atBool:
		return s.expect(c == 't' || c == 'f', atCR, badBool)
	case atCR:
		return s.expect(c == '\r', atLF, badCR)
	}
	return s.stepDouble(c)
}

// expect moves on if the byte was right.
func (s *ReplyScanner) expect(right bool, next state, why reason) reason {
	if !right {
		return why
	}
	s.state = next
	return fine
}

// stepLength takes the first byte of a length, or the 1 of "-1".
func (s *ReplyScanner) stepLength(c byte) reason {
	switch {
	case s.state == atNull:
		return s.expect(c == '1', atCR, negativeLength)
	case c == '\r':
		return emptyLength
	case c == '?':
		return streamed
	case c == '-':
		return s.expect(s.typ == '$' || s.typ == '*', atNull, negativeLength)
	}
	s.state = inLength
	return s.digit(c)
}

func (s *ReplyScanner) stepInteger(c byte) reason {
	switch {
	case c-'0' <= 9:
		s.state = inInteger
	case s.state == atInteger && (c == '-' || c == '+'):
		s.state = atIntegerDigit
	default:
		return s.expect(c == '\r' && s.state == inInteger, atLF, badInteger)
	}
	if s.typ == '(' {
		return s.lengthen(maxLine, lineTooLong)
	}
	return s.lengthen(maxNumber, numberTooLong)
}

// stepDouble takes a byte of a double: an optional sign, and then inf, nan or
// characters of a number with at least one digit among them (s.num counts them).
func (s *ReplyScanner) stepDouble(c byte) reason {
	switch s.state {
	case atInfN:
		return s.expect(c == 'n', atInfF, badDouble)
	case atInfF:
		return s.expect(c == 'f', atCR, badDouble)
	case atNanA:
		return s.expect(c == 'a', atNanN, badDouble)
	case atNanN:
		return s.expect(c == 'n', atCR, badDouble)
	}
	begun := s.state == inDouble
	switch {
	case c-'0' <= 9:
		s.num++
		s.state = inDouble
	case c == '.', begun && (c == 'e' || c == 'E' || c == '+' || c == '-'):
		s.state = inDouble
	case s.state == atDouble && (c == '-' || c == '+'):
		s.state = atDoubleSign
	case !begun && c == 'i':
		s.state = atInfN
	case !begun && c == 'n':
		s.state = atNanA
	default:
		return s.expect(c == '\r' && s.num > 0, atLF, badDouble)
	}
	return s.lengthen(maxLine, lineTooLong)
}
