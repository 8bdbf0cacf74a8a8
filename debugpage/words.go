package debugpage

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/everpool/everpool/internal/webpage"
)

// visible is text with nothing in it that can't be seen, or turns round what is.
func visible(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// grouped is a number with its thousands apart.
func grouped[N int | int64](n N) string {
	return webpage.Grouped(strconv.FormatInt(int64(n), 10))
}

// perSecond is a rate, with a decimal where that says something.
func perSecond(rate float64) string {
	switch {
	case rate == 0:
		return "0"
	case rate < 0.05:
		return "<\u202f0.1"
	case rate < 100:
		return strconv.FormatFloat(rate, 'f', 1, 64)
	}
	return grouped(int64(rate + 0.5))
}

// units are those of durations, the largest first.
var units = []struct {
	name string
	of   time.Duration
}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}

// lasting is a duration in one or two units: "5 d 3 h", "12 s", "300 ms".
func lasting(d time.Duration) string {
	switch {
	case d <= 0:
		return "0 s"
	case d < time.Millisecond:
		return "<\u202f1 ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 10*time.Second:
		return strings.TrimSuffix(strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', 1, 64), ".0") + " s"
	}
	var words string
	for i, u := range units {
		if d < u.of {
			continue
		}
		words = fmt.Sprintf("%d %s", d/u.of, u.name)
		if rest := d % u.of; i+1 < len(units) && rest >= units[i+1].of {
			words += fmt.Sprintf(" %d %s", rest/units[i+1].of, units[i+1].name)
		}
		break
	}
	return words
}

// several is a number of things: "1 request", "40 requests".
func several[N int | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return grouped(n) + " " + thing + "s"
}

// verb is the one that goes with so many things: "waits", "wait".
func verb[N int | int64](n N, plural string) string {
	if n == 1 {
		return plural + "s"
	}
	return plural
}

func appendSeconds(to []byte, d time.Duration) []byte {
	return strconv.AppendFloat(to, d.Seconds(), 'f', -1, 64)
}
