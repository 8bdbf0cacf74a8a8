package resp

import (
	"fmt"
	"strings"
	"testing"
)

// What is to come of a reply is told by what has come.
func TestRemaining(t *testing.T) {
	value := "$1000\r\n" + strings.Repeat("x", 1000) + "\r\n"
	for name, c := range map[string]struct {
		stream, came string // came is all, or up to there
		want, give   int64
	}{
		"a string":                         {value, value[:500], 507, 10},
		"nothing yet":                      {value, "", 0, 0},
		"half of an array":                 {"*10\r\n" + strings.Repeat(value, 10), "*10\r\n" + strings.Repeat(value, 5), 5 * 1009, 20},
		"an array within an array":         {"*4\r\n" + strings.Repeat("*2\r\n"+value+value, 4), "*4\r\n*2\r\n" + value + value, 3 * 2022, 20},
		"the first of an array":            {"*10\r\n" + strings.Repeat(value, 10), "*10\r\n$1000\r\nxxx", 10 * 1009, 30},
		"an array that has ended":          {"*1\r\n" + value, "*1\r\n" + value, 0, 0},
		"the one behind an array":          {"*2\r\n" + value + value + value, "*2\r\n" + value + value + value[:507], 502, 10},
		"a map":                            {"%2\r\n" + strings.Repeat(value, 4), "%2\r\n" + value, 3 * 1009, 20},
		"an array that only says its size": {"*1000\r\n" + strings.Repeat(":1\r\n", 1000), "*1000\r\n:1\r\n", 5500, 5500},
	} {
		t.Run(name, func(t *testing.T) {
			var s ReplyScanner
			for b := []byte(c.came); len(b) > 0; {
				n, _, err := s.Scan(b)
				if err != nil {
					t.Fatal(err)
				}
				b = b[n:]
			}
			if got := s.Remaining(); got < c.want-c.give || got > c.want+c.give {
				t.Errorf("%d bytes are to come, want %d within %d", got, c.want, c.give)
			}
		})
	}
}

// However many values a server announces.
func TestRemainingOfWhatIsAnnouncedHasABound(t *testing.T) {
	var s ReplyScanner
	if _, _, err := s.Scan(fmt.Appendf(nil, "*%d\r\n$%d\r\nx", 1<<26, 500<<20)); err != nil {
		t.Fatal(err)
	}
	if got := s.Remaining(); got < 500<<20 {
		t.Errorf("%d bytes are to come", got)
	}
}
