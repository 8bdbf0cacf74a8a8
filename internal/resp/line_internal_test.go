package resp

import (
	"errors"
	"testing"
)

// The limit of a line is as long as that of a bulk string, so the scanner is told that
// the line is as long already.
func TestALineFailsAtTheByteThatExceedsItsLimit(t *testing.T) {
	for _, tt := range []struct{ begin, more string }{
		{"+", "x"}, {"-", "x"}, {"(1", "1"}, {",1", "1"},
	} {
		for left := range 3 {
			var s ReplyScanner
			if _, _, err := s.Scan([]byte(tt.begin)); err != nil {
				t.Fatal(err)
			}
			s.line = maxLine - int64(left)
			for range left {
				if n, _, err := s.Scan([]byte(tt.more)); n != 1 || err != nil {
					t.Errorf("%q with %d bytes left: %d, %v", tt.begin, left, n, err)
				}
			}
			at := s
			if n, done, err := at.Scan([]byte("\r\n")); n != 2 || !done || err != nil {
				t.Errorf("%q at the limit: %d, %v, %v", tt.begin, n, done, err)
			}
			var limit *Error
			if n, _, err := s.Scan([]byte(tt.more)); n != 0 || !errors.As(err, &limit) || !limit.Limit {
				t.Errorf("%q beyond the limit: %d, %v", tt.begin, n, err)
			}
		}
	}
}
