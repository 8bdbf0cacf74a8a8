package resp_test

import (
	"errors"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"

	"github.com/everpool/everpool/internal/resp"
)

// outcome is what a scanner, or the reference, makes of a stream.
type outcome struct {
	Ends   []int  // stream offsets after each frame
	Kinds  string // type byte of each frame
	Failed bool
	Offset int64 // of the wrong byte
	Limit  bool
}

// A reference reads one byte after the other, recursively, as the protocol's
// description does. It ends by a panic: wrong or more.
type reference struct {
	p      []byte
	i      int
	kind   byte
	nested bool // an error stands inside another reply
	oddKey bool // a map has a null or an error for a key
}

type (
	more  struct{}
	wrong struct{ limit bool }
)

func (r *reference) next() byte {
	if r.i == len(r.p) {
		panic(more{})
	}
	r.i++
	return r.p[r.i-1]
}

// must complains of the byte read last.
func (r *reference) must(ok bool) {
	if !ok {
		panic(wrong{})
	}
}

func (r *reference) mayBe(ok bool) {
	if !ok {
		panic(wrong{limit: true})
	}
}

func (r *reference) lf() { r.must(r.next() == '\n') }

func (r *reference) text() {
	for n := 1; ; n++ {
		c := r.next()
		if c == '\r' {
			r.lf()
			return
		}
		r.mayBe(n <= 64<<10)
		r.must(c != '\n')
	}
}

// line reads a line that matches full, and whose every beginning matches prefix.
func (r *reference) line(prefix, full *regexp.Regexp, limit int) {
	var line []byte
	for {
		c := r.next()
		if c == '\r' {
			r.must(full.Match(line))
			r.lf()
			return
		}
		line = append(line, c)
		r.must(prefix.Match(line))
		r.mayBe(len(line) <= limit)
	}
}

var (
	integerPrefix = regexp.MustCompile(`^[+-]?[0-9]*$`)
	integerFull   = regexp.MustCompile(`^[+-]?[0-9]+$`)
	doublePrefix  = regexp.MustCompile(`^[+-]?(i|in|inf|n|na|nan|[0-9.][0-9.eE+-]*)?$`)
	doubleFull    = regexp.MustCompile(`^[+-]?(inf|nan|[0-9.]*[0-9][0-9.eE+-]*|\.[.eE+-]*[0-9][0-9.eE+-]*)$`)
	boolPrefix    = regexp.MustCompile(`^[tf]$`)
	nothing       = regexp.MustCompile(`^$`)
)

// length reads a length up to its CRLF; -1 is null.
func (r *reference) length(null bool, limit int64) int64 {
	var digits string
	for {
		c := r.next()
		switch {
		case c == '\r':
			r.must(digits != "" && digits != "-")
			r.lf()
			n, _ := strconv.ParseInt(digits, 10, 64)
			return n
		case c == '-':
			r.must(null && digits == "")
		case digits == "-":
			r.must(c == '1')
		default:
			r.must(c >= '0' && c <= '9' && digits != "-1")
		}
		digits += string(c)
		n, ok := new(big.Int).SetString(digits, 10)
		r.mayBe(!ok || n.Cmp(big.NewInt(limit)) <= 0)
		r.mayBe(len(digits) <= 29)
	}
}

func (r *reference) bulk(null bool) (isNull bool) {
	n := r.length(null, 512<<20)
	if n < 0 {
		return true
	}
	for range n {
		r.next()
	}
	r.must(r.next() == '\r')
	r.lf()
	return false
}

// value reads a value inside so many open aggregates, and what its attributes
// say of it. It returns its type byte, '_' for a null of any type.
func (r *reference) value(depth int, inAttribute bool) byte {
	c := r.next()
	if depth == 0 && strings.IndexByte("+-:(,#_$=!*~%>|", c) >= 0 {
		r.kind = c
	}
	r.nested = r.nested || depth > 0 && (c == '-' || c == '!')
	switch c {
	case '+', '-':
		r.text()
	case ':':
		r.line(integerPrefix, integerFull, 29)
	case '(':
		r.line(integerPrefix, integerFull, 64<<10)
	case ',':
		r.line(doublePrefix, doubleFull, 64<<10)
	case '#':
		r.line(boolPrefix, boolPrefix, 1)
	case '_':
		r.line(nothing, nothing, 0)
	case '$', '=', '!':
		if r.bulk(c == '$') {
			return '_'
		}
	case '*', '~', '>':
		r.must(c != '>' || depth == 0)
		r.mayBe(depth < 10_000)
		n := r.length(c == '*', 1<<26)
		if n < 0 {
			return '_'
		}
		for range n {
			r.value(depth+1, inAttribute)
		}
	case '%', '|':
		r.must(c == '%' || !inAttribute)
		r.mayBe(depth < 10_000)
		for range r.length(false, 1<<25) {
			key := r.value(depth+1, inAttribute || c == '|')
			r.oddKey = r.oddKey || key == '_' || key == '-' || key == '!'
			r.value(depth+1, inAttribute || c == '|')
		}
		if c == '|' {
			return r.value(depth, inAttribute)
		}
	default:
		r.must(false)
	}
	return c
}

// command reads a command.
func (r *reference) command() {
	r.must(r.next() == '*')
	for range r.number(1, 1<<24) {
		r.must(r.next() == '$')
		for range r.number(0, 512<<20) {
			r.next()
		}
		r.must(r.next() == '\r')
		r.lf()
	}
}

// number reads a number as a server does: without sign and leading zero.
func (r *reference) number(least, most int64) int64 {
	var digits string
	for {
		c := r.next()
		if c == '\r' {
			r.must(digits != "")
			r.lf()
			n, _ := strconv.ParseInt(digits, 10, 64)
			return n
		}
		r.must(c >= '0' && c <= '9' && digits != "0")
		digits += string(c)
		n, _ := strconv.ParseInt(digits, 10, 64)
		r.must(n >= least)
		r.mayBe(n <= most)
	}
}

// stream reads frames for as long as there are any.
func (r *reference) stream(frame func()) (out outcome) {
	defer func() {
		switch p := recover().(type) {
		case nil, more:
		case wrong:
			out.Failed, out.Offset, out.Limit = true, int64(r.i-1), p.limit
		default:
			panic(p)
		}
	}()
	for {
		r.kind = 0
		frame()
		out.Ends = append(out.Ends, r.i)
		out.Kinds += string(r.kind)
	}
}

func wantReplies(p []byte) outcome {
	r := &reference{p: p}
	return r.stream(func() { r.value(0, false) })
}

func wantCommands(p []byte) outcome {
	r := &reference{p: p}
	return r.stream(func() { r.command(); r.kind = '*' })
}

// gotReplies scans p in pieces of the lengths that piece returns.
func gotReplies(p []byte, piece func() int) (out outcome) {
	var s resp.ReplyScanner
	for at := 0; at < len(p); {
		chunk := p[at:min(len(p), at+piece())]
		for len(chunk) > 0 {
			n, done, err := s.Scan(chunk)
			at += n
			if err != nil {
				return out.fail(err)
			}
			if done {
				out.Ends = append(out.Ends, at)
				out.Kinds += string(s.Kind())
			} else if n != len(chunk) {
				panic("not done, but not all consumed")
			}
			chunk = chunk[n:]
		}
	}
	return out
}

// gotCommands shows p to the scanner in a buffer that grows by piece.
func gotCommands(p []byte, piece func() int) (out outcome) {
	var s resp.RequestScanner
	begin, end := 0, 0
	for end < len(p) {
		end = min(len(p), end+piece())
		for begin < end {
			n, done, err := s.Next(p[begin:end])
			if err != nil {
				return out.fail(err)
			}
			if !done {
				break
			}
			begin += n
			out.Ends = append(out.Ends, begin)
			out.Kinds += "*"
		}
	}
	return out
}

func (out outcome) fail(err error) outcome {
	var e *resp.Error
	if !errors.As(err, &e) {
		panic(err)
	}
	out.Failed, out.Offset, out.Limit = true, e.Offset, e.Limit
	return out
}

func whole() int   { return 1 << 30 }
func oneByte() int { return 1 }

// cuts makes pieces that end at the given offsets, and a last one.
func cuts(offsets ...int) func() int {
	last := 0
	return func() int {
		if len(offsets) == 0 {
			return whole()
		}
		n := offsets[0] - last
		last, offsets = offsets[0], offsets[1:]
		return n
	}
}

// randomPieces cuts at random, mostly finely.
func randomPieces(seed uint64) func() int {
	rnd := rand.New(rand.NewPCG(seed, 1))
	return func() int { return 1 + rnd.IntN(1+rnd.IntN(20)) }
}

// randomReply appends a valid reply that go-redis can make a value of.
func randomReply(rnd *rand.Rand, b []byte, depth int) []byte {
	if rnd.IntN(12) == 0 {
		b = append(b, "|1\r\n"...)
		b = randomScalar(rnd, b)
		b = randomScalar(rnd, b)
	}
	if depth == 0 || rnd.IntN(2) == 0 {
		return randomScalar(rnd, b)
	}
	n := rnd.IntN(4)
	typ := "*~%"[rnd.IntN(3)]
	b = append(b, typ)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, "\r\n"...)
	for range n {
		if typ == '%' {
			b = append(b, ":1\r\n"...)
		}
		b = randomReply(rnd, b, depth-1)
	}
	return b
}

var scalars = []string{
	"+OK\r\n", "+\r\n", "-ERR no\r\n", ":0\r\n", ":-12\r\n", ":+7\r\n", "$-1\r\n", "*-1\r\n", "$0\r\n\r\n",
	"$2\r\n\r\n\r\n", "$11\r\n+a\r\n$1\r\nb\r\n\r\n", "_\r\n", ",1.5\r\n", ",-inf\r\n", ",inf\r\n", ",nan\r\n", ",-nan\r\n",
	",1e+20\r\n", "#t\r\n", "#f\r\n", "!9\r\nERR no\r\nx\r\n", "=8\r\ntxt:a\r\nb\r\n", "(-12345678901234567890123\r\n",
}

func randomScalar(rnd *rand.Rand, b []byte) []byte {
	return append(b, scalars[rnd.IntN(len(scalars))]...)
}
