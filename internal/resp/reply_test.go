package resp_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/internal/resp"
)

// replyScript has every type of reply, alone and inside others.
var replyScript = []string{
	"+OK\r\n", "+\r\n", "-ERR wrong kind of value\r\n", ":1\r\n", ":-9223372036854775808\r\n", ":+5\r\n",
	"$5\r\nhello\r\n", "$0\r\n\r\n", "$-1\r\n", "$4\r\n\r\n\r\n\r\n", "$007\r\n*1\r\n+a\x00\r\n",
	"*-1\r\n", "*0\r\n", "*2\r\n$3\r\nfoo\r\n*-1\r\n", "*2\r\n*1\r\n*0\r\n*2\r\n:1\r\n$-1\r\n",
	"_\r\n", ",3.25\r\n", ",-1e-7\r\n", ",.5\r\n", ",inf\r\n", ",-inf\r\n", ",nan\r\n", "#t\r\n", "#f\r\n",
	"!5\r\nERR x\r\n", "=7\r\ntxt:a\r\n\r\n", "(-349999999999999999999\r\n",
	"%0\r\n", "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n", "~3\r\n+a\r\n#t\r\n~0\r\n",
	">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", ">0\r\n",
	"|1\r\n+ttl\r\n:9\r\n$1\r\nv\r\n",
	"|0\r\n+x\r\n",
	"|1\r\n*1\r\n:1\r\n%1\r\n:1\r\n:2\r\n|1\r\n+b\r\n+c\r\n*1\r\n+x\r\n",
	"*3\r\n|1\r\n+a\r\n+b\r\n:1\r\n|0\r\n*0\r\n*1\r\n|1\r\n:1\r\n:1\r\n*0\r\n",
	"|1\r\n+a\r\n+b\r\n>1\r\n+message\r\n",
}

func TestEveryReplyEndsWhereItShouldAndHasItsKind(t *testing.T) {
	for _, reply := range replyScript {
		kind := reply[0]
		switch {
		case strings.HasPrefix(reply, "|1\r\n+ttl"):
			kind = '$'
		case strings.HasPrefix(reply, "|0"):
			kind = '+'
		case strings.HasPrefix(reply, "|1\r\n+a"):
			kind = '>'
		case strings.HasPrefix(reply, "|1\r\n*"):
			kind = '*'
		}
		var s resp.ReplyScanner
		if s.Kind() != 0 || s.InFrame() {
			t.Errorf("new scanner: kind %q, in frame %v", s.Kind(), s.InFrame())
		}
		// What follows the reply must not be looked at.
		n, done, err := s.Scan([]byte(reply + "\x00garbage"))
		if n != len(reply) || !done || err != nil {
			t.Errorf("Scan(%q) = %d, %v, %v, want %d, true, nil", reply, n, done, err, len(reply))
		}
		if s.Kind() != kind || s.InFrame() {
			t.Errorf("after %q: kind %q, in frame %v, want %q, false", reply, s.Kind(), s.InFrame(), kind)
		}
	}
}

func TestEverySplitOfRepliesGivesTheSameBoundaries(t *testing.T) {
	script := []byte(strings.Join(replyScript, ""))
	want := outcome{}
	for i, reply := range replyScript {
		end := len(reply)
		if i > 0 {
			end += want.Ends[i-1]
		}
		want.Ends = append(want.Ends, end)
	}
	want.Kinds = wantReplies(script).Kinds
	check := func(name any, piece func() int) {
		t.Helper()
		if diff := cmp.Diff(want, gotReplies(script, piece)); diff != "" {
			t.Fatalf("cut at %v (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(want, wantReplies(script)); diff != "" {
		t.Fatalf("reference (-want +got):\n%s", diff)
	}
	check("nothing", whole)
	check("every byte", oneByte)
	for i := 1; i < len(script); i++ {
		check(i, cuts(i))
		for j := i + 1; j < min(len(script), i+12); j++ {
			check([]int{i, j}, cuts(i, j))
		}
	}
}

func TestEveryTruncatedReplyAsksForMore(t *testing.T) {
	for _, reply := range replyScript {
		for cut := range len(reply) {
			var s resp.ReplyScanner
			n, done, err := s.Scan([]byte(reply[:cut]))
			if n != cut || done || err != nil {
				t.Errorf("Scan(%q) = %d, %v, %v, want %d, false, nil", reply[:cut], n, done, err, cut)
			}
			if s.InFrame() != (cut > 0) {
				t.Errorf("after %q: in frame %v", reply[:cut], s.InFrame())
			}
		}
	}
}

func TestKindIsThatOfAnAttributeOnlyUntilItsReplyBegins(t *testing.T) {
	const reply = "|1\r\n+a\r\n$1\r\nb\r\n%1\r\n+k\r\n:1\r\n"
	var s resp.ReplyScanner
	for i := range reply {
		_, _, err := s.Scan([]byte(reply[i : i+1]))
		if err != nil {
			t.Fatal(err)
		}
		want := byte('|')
		if i >= strings.IndexByte(reply, '%') {
			want = '%'
		}
		if s.Kind() != want {
			t.Errorf("after %q: kind %q, want %q", reply[:i+1], s.Kind(), want)
		}
	}
	if _, _, err := s.Scan(nil); err != nil || s.Kind() != '%' {
		t.Errorf("after an empty Scan: kind %q, want '%%'", s.Kind())
	}
	if _, _, err := s.Scan([]byte("+")); err != nil || s.Kind() != '+' || !s.InFrame() {
		t.Errorf("in the next reply: kind %q, in frame %v", s.Kind(), s.InFrame())
	}
}

func TestCorruptRepliesFailAtTheWrongByte(t *testing.T) {
	const pair = ":1\r\n:2\r\n"
	for _, tt := range []struct {
		stream string
		offset int64
		reason string
	}{
		{"x", 0, `unknown reply type ('x')`},
		{"\xff", 0, `unknown reply type ('\u00ff')`},
		{"\r\n", 0, `unknown reply type ('\r')`},
		{"+OK\r\nOK\r\n", 5, `unknown reply type ('O')`},
		{"*2\r\n:1\r\n?", 8, `unknown reply type ('?')`},
		{"+OK\n", 3, "LF without CR"},
		{"-ERR a\rb\r\n", 7, "CR without LF"},
		{"+OK\r\r\n", 4, "CR without LF"},
		{":\r\n", 1, "integer is not a number"},
		{":-\r\n", 2, "integer is not a number"},
		{":1-\r\n", 2, "integer is not a number"},
		{":1.5\r\n", 2, "integer is not a number"},
		{":1\n", 2, "integer is not a number"},
		{":1\rx", 3, "CR without LF"},
		{"(1e5\r\n", 2, "integer is not a number"},
		{",\r\n", 1, "double is not a number"},
		{",-\r\n", 2, "double is not a number"},
		{",.\r\n", 2, "double is not a number"},
		{",e5\r\n", 1, "double is not a number"},
		{",infi\r\n", 4, "CRLF expected"},
		{",ifn\r\n", 2, "double is not a number"},
		{",1inf\r\n", 2, "double is not a number"},
		{",nab\r\n", 3, "double is not a number"},
		{"#x\r\n", 1, "boolean is neither t nor f"},
		{"#tt\r\n", 2, "CRLF expected"},
		{"_x\r\n", 1, "CRLF expected"},
		{"$\r\n", 1, "length is empty"},
		{"*\r\n", 1, "length is empty"},
		{"$+5\r\n", 1, "length is not a number"},
		{"$5 \r\n", 2, "length is not a number"},
		{"$5x\r\n", 2, "length is not a number"},
		{"$5\n", 2, "LF without CR"},
		{"$\n", 1, "LF without CR"},
		{"$5\rh", 3, "CR without LF"},
		{"$-0\r\n", 2, "negative length"},
		{"$-2\r\n", 2, "negative length"},
		{"$-11\r\n", 3, "CRLF expected"},
		{"*-2\r\n", 2, "negative length"},
		{"=-1\r\n", 1, "negative length"},
		{"!-1\r\n", 1, "negative length"},
		{"%-1\r\n", 1, "negative length"},
		{"~-1\r\n", 1, "negative length"},
		{">-1\r\n", 1, "negative length"},
		{"|-1\r\n", 1, "negative length"},
		{"$3\r\nabcd\r\n", 7, "bulk string doesn't end with CRLF"},
		{"$3\r\nab\r\n\r\n", 7, "bulk string doesn't end with CRLF"},
		{"$4\r\nabc\r\n\r\n", 8, "bulk string doesn't end with CRLF"},
		{"$3\r\nabc\rx", 8, "CR without LF"},
		{"$?\r\n", 1, "streamed RESP3 type"},
		{"*?\r\n", 1, "streamed RESP3 type"},
		{"%?\r\n", 1, "streamed RESP3 type"},
		{";4\r\n", 0, "streamed RESP3 type"},
		{"*1\r\n.\r\n", 4, "streamed RESP3 type"},
		{"*1\r\n>1\r\n", 4, "push inside another reply"},
		{"|1\r\n+a\r\n>1\r\n", 8, "push inside another reply"},
		{"*1\r\n|1\r\n" + pair + ">1\r\n", 16, "push inside another reply"},
		{"|1\r\n|1\r\n", 4, "attribute inside an attribute"},
		{"|1\r\n+a\r\n*1\r\n|0\r\n", 12, "attribute inside an attribute"},
	} {
		want := resp.Error{Offset: tt.offset, Reason: tt.reason}
		checkReplyError(t, tt.stream, want)
	}
}

func TestRepliesBeyondALimitFailAtTheByteThatExceedsIt(t *testing.T) {
	const (
		tooLong = "bulk string longer than 512 MiB"
		tooMany = "aggregate of more than 1<<26 elements"
		tooDeep = "more than 10,000 aggregates inside each other"
		number  = "number line longer than 32 bytes"
		attr    = "|1\r\n+a\r\n"
	)
	for _, tt := range []struct {
		name   string
		stream string
		offset int64
		reason string
	}{
		{"bulk", "$536870913\r\n", 9, tooLong},
		{"bulk error", "!5368709120\r\n", 10, tooLong},
		{"bulk of 2^64 bytes", "$18446744073709551616\r\n", 10, tooLong},
		{"bulk of 2^64+3 bytes", "=18446744073709551619\r\n", 10, tooLong},
		{"array", "*67108865\r\n", 8, tooMany},
		{"set", "~99999999999999999999\r\n", 8, tooMany},
		{"map", "%33554433\r\n", 8, tooMany},
		{"attribute", "|33554433\r\n", 8, tooMany},
		{"integer", ":" + strings.Repeat("0", 30), 30, number},
		{"zeros", "$" + strings.Repeat("0", 30), 30, number},
		{"depth", strings.Repeat("*1\r\n", 10_001), 40_000, tooDeep},
		{"depth of an empty array", strings.Repeat("*1\r\n", 10_000) + "*0\r\n", 40_000, tooDeep},
		{"depth of an attribute", strings.Repeat("~1\r\n", 10_000) + attr, 40_000, tooDeep},
		{"depth in an attribute", attr + strings.Repeat("*1\r\n", 10_000), 40_004, tooDeep},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkReplyError(t, tt.stream, resp.Error{Offset: tt.offset, Reason: tt.reason, Limit: true})
		})
	}
}

func TestRepliesAtALimitPass(t *testing.T) {
	long := strings.Repeat("9", 200_000) // lines, unlike numbers, have the limit of bulk strings
	const depth = 10_000
	deep := strings.Repeat("*1\r\n", depth-1)
	for _, reply := range []string{
		"+" + long + "\r\n", "-" + long + "\r\n", "(" + long + "\r\n", "," + long + "\r\n",
		":" + strings.Repeat("0", 29) + "\r\n", "$" + strings.Repeat("0", 29) + "\r\n\r\n",
		"*1\r\n" + deep + ":1\r\n", "*1\r\n" + deep + "$-1\r\n", deep + "*0\r\n", deep + "|1\r\n:1\r\n:1\r\n*1\r\n:1\r\n",
		strings.Repeat("*2\r\n", depth) + strings.Repeat(":1\r\n", depth+1), strings.Repeat("%1\r\n:1\r\n", depth) + "_\r\n",
	} {
		want := outcome{Ends: []int{len(reply)}, Kinds: reply[:1]}
		for _, piece := range []func() int{whole, oneByte} {
			if diff := cmp.Diff(want, gotReplies([]byte(reply), piece)); diff != "" {
				t.Errorf("%.20q (-want +got):\n%s", reply, diff)
			}
		}
	}
	for _, begun := range []string{"$536870912\r\n", "*67108864\r\n", "%33554432\r\n", "|33554432\r\n"} {
		if diff := cmp.Diff(outcome{}, gotReplies([]byte(begun), whole)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", begun, diff)
		}
	}
}

// checkReplyError scans the stream whole and byte by byte, and then more.
func checkReplyError(t *testing.T, stream string, want resp.Error) {
	t.Helper()
	for _, piece := range []int{len(stream), 1} {
		var s resp.ReplyScanner
		var err error
		consumed := 0
		for err == nil && consumed < len(stream) {
			var n int
			n, _, err = s.Scan([]byte(stream[consumed:min(len(stream), consumed+piece)]))
			consumed += n
		}
		checkError(t, stream, err, want)
		if int64(consumed) != want.Offset {
			t.Errorf("%.40q: consumed %d bytes, want %d", stream, consumed, want.Offset)
		}
		for range 2 {
			n, done, again := s.Scan([]byte("+OK\r\n"))
			if n != 0 || done {
				t.Errorf("%.40q: failed scanner consumed %d, done %v", stream, n, done)
			}
			checkError(t, stream, again, want)
		}
		s.Reset()
		if n, done, err := s.Scan([]byte("+OK\r\n")); n != 5 || !done || err != nil {
			t.Errorf("%.40q: after Reset Scan = %d, %v, %v", stream, n, done, err)
		}
	}
}

func checkError(t *testing.T, stream string, err error, want resp.Error) {
	t.Helper()
	var got *resp.Error
	if !errors.As(err, &got) {
		t.Errorf("%.40q: error %v, want %v", stream, err, &want)
		return
	}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("%.40q: error (-want +got):\n%s", stream, diff)
	}
}

func TestAnErrorNamesTheReason(t *testing.T) {
	var s resp.ReplyScanner
	if _, _, err := s.Scan([]byte("$5\r\nhello\r\n")); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.Scan([]byte("secret"))
	if want := "resp: unknown reply type ('s')"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %v", err, want)
	}
}

func TestSkippingABodyIsTheSameAsScanningIt(t *testing.T) {
	script := []byte(strings.Join(replyScript, ""))
	want := gotReplies(script, whole)
	for step := int64(1); step < 12; step++ {
		for _, chunk := range []int{1, 2, 3, 5, 8} {
			var s resp.ReplyScanner
			got := outcome{}
			for pos := 0; pos < len(script); {
				if left := s.BulkRemaining(); left > 0 {
					n := min(left, step)
					s.Skip(n)
					if s.BulkRemaining() != left-n {
						t.Fatalf("Skip(%d) of %d leaves %d", n, left, s.BulkRemaining())
					}
					pos += int(n)
				}
				n, done, err := s.Scan(script[pos:min(len(script), pos+chunk)])
				if err != nil {
					t.Fatalf("step %d, chunk %d: %v", step, chunk, err)
				}
				if pos += n; done {
					got.Ends = append(got.Ends, pos)
					got.Kinds += string(s.Kind())
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("step %d, chunk %d (-want +got):\n%s", step, chunk, diff)
			}
		}
	}
}

func TestBulkRemainingCountsDownTheBody(t *testing.T) {
	const reply = "*2\r\n$3\r\nabc\r\n$0\r\n\r\n"
	want := []int64{0, 0, 0, 0, 0, 0, 0, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	var got []int64
	var s resp.ReplyScanner
	for i := range reply {
		if _, _, err := s.Scan([]byte(reply[i : i+1])); err != nil {
			t.Fatal(err)
		}
		got = append(got, s.BulkRemaining())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOffsetsCountSkippedBytes(t *testing.T) {
	var s resp.ReplyScanner
	if _, _, err := s.Scan([]byte("+OK\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Scan([]byte("$300000000\r\n")); err != nil {
		t.Fatal(err)
	}
	s.Skip(s.BulkRemaining())
	_, _, err := s.Scan([]byte("x"))
	checkError(t, "skipped", err, resp.Error{Offset: 300000017, Reason: "bulk string doesn't end with CRLF"})
}

func TestSkipOfMoreThanTheBodyPanics(t *testing.T) {
	for _, n := range []int64{-1, 4} {
		var s resp.ReplyScanner
		if _, _, err := s.Scan([]byte("$3\r\n")); err != nil {
			t.Fatal(err)
		}
		checkPanic(t, func() { s.Skip(n) })
	}
	checkPanic(t, func() { new(resp.ReplyScanner).Skip(1) })
	new(resp.ReplyScanner).Skip(0)
}

func checkPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f()
}

func TestScanningRepliesDoesNotAllocate(t *testing.T) {
	script := []byte(strings.Join(replyScript, ""))
	var s resp.ReplyScanner
	allocs := testing.AllocsPerRun(100, func() {
		for p := script; len(p) > 0; {
			n, _, err := s.Scan(p[:min(len(p), 7)])
			if err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if size := unsafe.Sizeof(s); size > 128 {
		t.Errorf("a ReplyScanner has %d bytes", size)
	}
}

func TestRandomRepliesMatchTheReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var p []byte
		for range 1 + rnd.IntN(4) {
			p = randomReply(rnd, p, 4)
		}
		if rnd.IntN(2) == 0 {
			p[rnd.IntN(len(p))] = "+-:$*%~>|_#,(!=\r\n0159x"[rnd.IntN(22)]
		}
		if diff := cmp.Diff(wantReplies(p), gotReplies(p, randomPieces(rnd.Uint64()))); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", p, diff)
		}
	}
}

func FuzzReplyScanner(f *testing.F) {
	for i, reply := range replyScript {
		f.Add([]byte(reply), uint64(i))
	}
	f.Add([]byte(strings.Join(replyScript, "")), uint64(0))
	f.Fuzz(func(t *testing.T, p []byte, seed uint64) {
		want := wantReplies(p)
		for _, piece := range []func() int{whole, oneByte, randomPieces(seed)} {
			if diff := cmp.Diff(want, gotReplies(p, piece)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		}
	})
}

func BenchmarkReplyScanner(b *testing.B) {
	list := "*100\r\n" + strings.Repeat("$32\r\n"+strings.Repeat("v", 32)+"\r\n", 100)
	for _, bb := range []struct{ name, reply string }{
		{"status", "+OK\r\n"},
		{"int", ":1\r\n"},
		{"null", "$-1\r\n"},
		{"bulk32", "$32\r\n" + strings.Repeat("v", 32) + "\r\n"},
		{"bulk16K", "$16384\r\n" + strings.Repeat("v", 16384) + "\r\n"},
		{"map3", "%3\r\n+a\r\n:1\r\n+b\r\n:2\r\n+c\r\n:3\r\n"},
		{"list100", list},
		{"error", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"},
	} {
		b.Run("reply="+bb.name, func(b *testing.B) {
			p := []byte(bb.reply)
			var s resp.ReplyScanner
			b.ReportAllocs()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, done, err := s.Scan(p); !done || err != nil {
					b.Fatal(done, err)
				}
			}
		})
	}
}
