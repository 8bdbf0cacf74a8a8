package resp

// MaxArgs is how many arguments of a command have their place recorded: enough
// for the name, its subcommand and the options that decide how it is treated.
const MaxArgs = 16

// maxSpan keeps offsets within an int32. Arguments that end beyond it aren't
// recorded.
const maxSpan = 1 << 30

// A Span is the place of an argument: offsets relative to the first byte of its
// command.
type Span struct{ Start, End int32 }

// A RequestScanner finds the commands in a request stream that the caller keeps
// in one contiguous, growing buffer. Its zero value stands before the first
// command. It isn't safe for concurrent use.
//
// Only arrays of bulk strings are commands: "*<count>\r\n", and count times
// "$<length>\r\n<body>\r\n", as every client library sends. All else is refused
// with an error, because a request that gets no reply (an empty line, "*0") puts
// off the count of replies, and one that the server closes the connection for
// (a length that isn't one, or has a leading zero) would take everybody else's
// requests with it: neither must ever reach a shared connection.
type RequestScanner struct {
	base    int64 // offset in the stream of the buffer's first byte
	pos     int   // in the buffer: where to go on
	num     int64 // the number being read, then what is left of the body
	start   int   // of the argument being read, in the buffer
	args    int32 // announced
	arg     int32 // arguments ended
	seen    int32 // spans recorded
	state   state
	within  bool // a command has begun and not ended
	dropped bool // Discard was called within the command
	fault   fault
	spans   [MaxArgs]Span
}

// Next continues with the current command. buf begins with the command's first
// byte (or where Discard left it) and holds what it held at the call before and,
// possibly, more. When the command is complete, Next returns done and the length
// n of the command in buf, and the next command begins at buf[n:]. Otherwise n
// is 0, and all of buf is part of the command. Nothing is scanned twice, and
// nothing beyond the end of the command is looked at.
//
// After a failure Next returns an equal [*Error] until Reset.
func (s *RequestScanner) Next(buf []byte) (n int, done bool, err error) {
	if s.fault.why != fine {
		return 0, false, s.fault.err()
	}
	if !s.within {
		if n := s.whole(buf); n > 0 {
			s.base += int64(n)
			return n, true, nil
		}
	}
	done, why := s.scan(buf)
	if why != fine {
		s.fault = fault{offset: s.base + int64(s.pos), why: why, got: buf[s.pos]}
		return 0, false, s.fault.err()
	}
	if !done {
		return 0, false, nil
	}
	n = s.pos
	s.base += int64(n)
	s.pos = 0
	s.within = false
	return n, true, nil
}

// NumArgs returns the number of arguments, the name included, that the current
// command announced, or after done the one that just ended; 0 until it is known.
func (s *RequestScanner) NumArgs() int { return int(s.args) }

// Seen returns how many of the command's first MaxArgs arguments are complete,
// their CRLF included, and have their place recorded. It stays 0 after a
// Discard. Arguments that end more than 1<<30 bytes into the command aren't
// recorded.
func (s *RequestScanner) Seen() int { return int(s.seen) }

// Arg returns the place of argument i < Seen(), the name being argument 0. It is
// valid until a Next begins another command.
func (s *RequestScanner) Arg(i int) Span { return s.spans[:s.seen][i] }

// Discard says that the caller has dropped the first n bytes of the buffer that
// it gave to Next, while the current command is unfinished: a large command that
// streams through. The buffer of the following Next begins n bytes later. The
// recorded places are forgotten; NumArgs stays. It panics if n is negative or
// more than Next has seen of the command.
func (s *RequestScanner) Discard(n int) {
	if n < 0 || n > s.pos {
		panic("resp: Discard of more than was scanned")
	}
	if n == 0 {
		return
	}
	s.pos -= n
	s.base += int64(n)
	s.seen = 0
	s.dropped = true
}

// BodyRemaining returns how many bytes of the current argument's body, its CRLF
// not counted, are still to come after those that Next has seen; 0 outside a
// body.
func (s *RequestScanner) BodyRemaining() int64 {
	if s.state != inBody {
		return 0
	}
	return s.num
}

// Skip advances over n bytes of an argument's body that are never put in the
// buffer. It panics if n is negative or more than BodyRemaining, and, unless n is
// 0, if not everything that Next has seen was dropped by Discard.
func (s *RequestScanner) Skip(n int64) {
	switch {
	case n == 0:
		return
	case n < 0 || n > s.BodyRemaining():
		panic("resp: Skip beyond the argument's body")
	case s.pos != 0:
		panic("resp: Skip without Discard")
	}
	s.base += n
	s.skipBody(n)
}

// InCommand reports whether a command has begun and not ended.
func (s *RequestScanner) InCommand() bool { return s.within }

// Reset makes the scanner as new.
func (s *RequestScanner) Reset() { *s = RequestScanner{} }

// whole takes a command that is in buf from its first to its last byte, as most
// are, in less than half of the time that scan needs. It returns 0, with the scanner still
// before the command, for one that is unfinished, wrong, or out of the ordinary.
func (s *RequestScanner) whole(buf []byte) int {
	if len(buf) == 0 || buf[0] != '*' {
		return 0
	}
	args, pos := shortNumber(buf, 1)
	if args == 0 {
		return 0
	}
	for i := range args {
		if pos >= len(buf) || buf[pos] != '$' {
			return 0
		}
		size, start := shortNumber(buf, pos+1)
		end := start + size
		if start == 0 || end+1 >= len(buf) || buf[end] != '\r' || buf[end+1] != '\n' {
			return 0
		}
		if i < MaxArgs {
			s.spans[i] = Span{Start: int32(start), End: int32(end)}
		}
		pos = end + 2
	}
	s.args, s.arg, s.seen = int32(args), int32(args), int32(min(args, MaxArgs))
	return pos
}

// shortNumber reads a number of up to six digits, which is below every limit, and
// its CRLF. It returns where they end, or 0 if that isn't what is at pos.
func shortNumber(buf []byte, pos int) (n, end int) {
	first := pos
	for pos < len(buf) && pos < first+6 && buf[pos]-'0' <= 9 {
		n = n*10 + int(buf[pos]-'0')
		pos++
	}
	if pos == first || buf[first] == '0' && pos > first+1 || pos+1 >= len(buf) || buf[pos] != '\r' || buf[pos+1] != '\n' {
		return 0, 0
	}
	return n, pos + 2
}

// scan is the state machine. It leaves s.pos after the last byte consumed, and,
// if there is a reason, at the wrong byte.
func (s *RequestScanner) scan(buf []byte) (bool, reason) {
	for s.pos < len(buf) {
		c := buf[s.pos]
		switch s.state {
		case atType:
			if why := s.begin(c); why != fine {
				return false, why
			}

		case atLength:
			if why := s.first(c); why != fine {
				return false, why
			}

		case inLength:
			if c == '\r' {
				s.state = atLengthLF
			} else if why := s.digit(c); why != fine {
				return false, why
			}

		case atLengthCR:
			if c != '\r' {
				return false, leadingZero
			}
			s.state = atLengthLF

		case atLengthLF:
			if c != '\n' {
				return false, badLF
			}
			s.announced()

		case inBody:
			n := min(s.num, int64(len(buf)-s.pos))
			s.pos += int(n)
			s.skipBody(n)
			continue

		case atBodyCR:
			if c != '\r' {
				return false, badBodyEnd
			}
			s.state = atBodyLF

		case atBodyLF:
			if c != '\n' {
				return false, badLF
			}
			s.pos++
			if s.complete() {
				return true, fine
			}
			continue
		}
		s.pos++
	}
	return false, fine
}

// begin takes the type byte of a command or of an argument.
func (s *RequestScanner) begin(c byte) reason {
	if s.within {
		if c != '$' {
			return badArgumentType
		}
		s.state = atLength
		return fine
	}
	switch c {
	case '*':
	case '\r', '\n':
		return emptyLine
	default:
		return inlineCommand
	}
	s.within, s.dropped = true, false
	s.args, s.arg, s.seen = 0, 0, 0
	s.state = atLength
	return fine
}

// counting reports whether the number being read is the command's count of
// arguments, not a length. Until the count is known, it is 0.
func (s *RequestScanner) counting() bool { return s.args == 0 }

// first takes the first byte of a number.
func (s *RequestScanner) first(c byte) reason {
	s.num = 0
	s.state = inLength
	switch {
	case c == '\r':
		return emptyLength
	case c == '-' && s.counting():
		return negativeCount
	case c == '-':
		return nullArgument
	case c == '0' && s.counting():
		return noArguments
	case c == '0':
		s.state = atLengthCR // the server refuses leading zeros
		return fine
	}
	return s.digit(c)
}

// digit adds one to the number. The limits are tested at each, so that nothing
// overflows, and with no leading zeros they bound the line as well.
func (s *RequestScanner) digit(c byte) reason {
	d := c - '0'
	if d > 9 {
		return notLength(c)
	}
	s.num = s.num*10 + int64(d)
	if s.num > maxCount {
		if s.counting() {
			return tooManyArguments
		}
		if s.num > maxBulk {
			return bulkTooLong
		}
	}
	return fine
}

// announced is called at the LF of a number's line.
func (s *RequestScanner) announced() {
	if s.counting() {
		s.args = int32(s.num)
		s.state = atType
		return
	}
	s.start = s.pos + 1
	s.state = inBody
	s.skipBody(0)
}

// skipBody takes n bytes off the body that is left.
func (s *RequestScanner) skipBody(n int64) {
	if s.num -= n; s.num == 0 {
		s.state = atBodyCR
	}
}

// complete is called when an argument has ended. It records its place if all
// before it are recorded, and reports whether the command ends with it.
func (s *RequestScanner) complete() bool {
	if s.arg == s.seen && s.seen < MaxArgs && !s.dropped && s.pos-2 <= maxSpan {
		s.spans[s.seen] = Span{Start: int32(s.start), End: int32(s.pos - 2)}
		s.seen++
	}
	s.state = atType
	s.arg++
	return s.arg == s.args
}
