package resp

import "strconv"

// Args returns the spans of the arguments that are completely in the buffer so
// far, at most MaxArgs; [RequestScanner.Arg] i is its element i. It is the
// scanner's own memory: valid as long as Arg is, and not to be changed.
func (s *RequestScanner) Args() []Span { return s.spans[:s.seen] }

// AppendCommand appends a command with the given arguments, its name first.
func AppendCommand[T ~string | ~[]byte](dst []byte, args ...T) []byte {
	dst = appendHeader(dst, '*', len(args))
	for _, a := range args {
		dst = appendHeader(dst, '$', len(a))
		dst = append(dst, a...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

func appendHeader(dst []byte, kind byte, n int) []byte {
	dst = append(dst, kind)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, "\r\n"...)
}
