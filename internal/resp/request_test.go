package resp_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/internal/resp"
)

var requestScript = [][]string{
	{"get", "key:00042"},
	{"PING"},
	{"set", "k", "\r\n*1\r\n$1\r\n", "EX", "10"},
	{""},
	{"echo", ""},
	{"mset", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17"},
	{"set", "big", strings.Repeat("x", 1000)},
}

func request(args ...string) string {
	var b strings.Builder
	b.WriteString("*" + strconv.Itoa(len(args)) + "\r\n")
	for _, arg := range args {
		b.WriteString("$" + strconv.Itoa(len(arg)) + "\r\n" + arg + "\r\n")
	}
	return b.String()
}

func requestStream() string {
	var b strings.Builder
	for _, args := range requestScript {
		b.WriteString(request(args...))
	}
	return b.String()
}

// recorded returns the arguments that the scanner has the places of.
func recorded(s *resp.RequestScanner, command []byte) []string {
	var args []string
	for i := range s.Seen() {
		span := s.Arg(i)
		args = append(args, string(command[span.Start:span.End]))
	}
	return args
}

func TestEveryCommandEndsWhereItShouldAndItsFirstArgumentsAreFound(t *testing.T) {
	for _, args := range requestScript {
		var s resp.RequestScanner
		command := request(args...)
		buf := []byte(command + "\x00garbage")
		n, done, err := s.Next(buf)
		if n != len(command) || !done || err != nil {
			t.Errorf("Next(%.40q) = %d, %v, %v, want %d, true, nil", command, n, done, err, len(command))
		}
		if s.NumArgs() != len(args) || s.InCommand() {
			t.Errorf("%.40q: %d arguments, in command %v", command, s.NumArgs(), s.InCommand())
		}
		want := args[:min(len(args), resp.MaxArgs)]
		if diff := cmp.Diff(want, recorded(&s, buf)); diff != "" {
			t.Errorf("%.40q: arguments (-want +got):\n%s", command, diff)
		}
	}
}

func TestEverySplitOfCommandsGivesTheSameBoundaries(t *testing.T) {
	stream := []byte(requestStream())
	var want outcome
	for i, args := range requestScript {
		end := len(request(args...))
		if i > 0 {
			end += want.Ends[i-1]
		}
		want.Ends = append(want.Ends, end)
		want.Kinds += "*"
	}
	if diff := cmp.Diff(want, wantCommands(stream)); diff != "" {
		t.Fatalf("reference (-want +got):\n%s", diff)
	}
	check := func(name any, piece func() int) {
		t.Helper()
		if diff := cmp.Diff(want, gotCommands(stream, piece)); diff != "" {
			t.Fatalf("cut at %v (-want +got):\n%s", name, diff)
		}
	}
	check("nothing", whole)
	check("every byte", oneByte)
	for i := 1; i < len(stream); i++ {
		check(i, cuts(i))
		for j := i + 1; j < min(len(stream), i+12); j++ {
			check([]int{i, j}, cuts(i, j))
		}
	}
}

func TestArgumentsAreSeenAsSoonAsTheyAreComplete(t *testing.T) {
	command := []byte(request("set", "k", "", "value"))
	ends := []int{13, 20, 26, 37} // after each argument's CRLF
	var s resp.RequestScanner
	for cut := 0; cut <= len(command); cut++ {
		n, done, err := s.Next(command[:cut])
		if err != nil || done != (cut == len(command)) || done != (n == len(command)) {
			t.Fatalf("Next of %d bytes = %d, %v, %v", cut, n, done, err)
		}
		seen := 0
		for _, end := range ends {
			if cut >= end {
				seen++
			}
		}
		if s.Seen() != seen {
			t.Errorf("after %q: %d arguments seen, want %d", command[:cut], s.Seen(), seen)
		}
		if want := 4 * min(1, cut/4); s.NumArgs() != want {
			t.Errorf("after %q: NumArgs %d, want %d", command[:cut], s.NumArgs(), want)
		}
		if s.InCommand() != (cut > 0 && !done) {
			t.Errorf("after %q: in command %v", command[:cut], s.InCommand())
		}
	}
	if diff := cmp.Diff([]string{"set", "k", "", "value"}, recorded(&s, command)); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if _, _, err := s.Next(nil); err != nil || s.NumArgs() != 4 || s.Seen() != 4 {
		t.Errorf("an empty Next after done forgets the command: %d arguments, %d seen, %v", s.NumArgs(), s.Seen(), err)
	}
}

func TestNothingIsScannedTwice(t *testing.T) {
	command := []byte(request("set", "k", "value"))
	var s resp.RequestScanner
	for cut := 1; cut <= len(command); cut++ {
		buf := append(bytes.Repeat([]byte{'?'}, cut-1), command[cut-1])
		if _, done, err := s.Next(buf); err != nil || done != (cut == len(command)) {
			t.Fatalf("Next of byte %d: %v, %v", cut, done, err)
		}
	}
}

func TestCorruptCommandsFailAtTheWrongByte(t *testing.T) {
	const (
		inline  = "inline command "
		zero    = "command without arguments gets no reply, and a count has no leading zero"
		bulkEnd = "bulk string doesn't end with CRLF"
	)
	for _, tt := range []struct {
		stream string
		want   resp.Error
	}{
		{"PING\r\n", resp.Error{Offset: 0, Reason: inline + "('P')"}},
		{"$4\r\nPING\r\n", resp.Error{Offset: 0, Reason: inline + "('$')"}},
		{"\r\n", resp.Error{Offset: 0, Reason: "empty inline command gets no reply"}},
		{"\n", resp.Error{Offset: 0, Reason: "empty inline command gets no reply"}},
		{"*1\r\n$4\r\nPING\r\n\r\n", resp.Error{Offset: 14, Reason: "empty inline command gets no reply"}},
		{"*0\r\n", resp.Error{Offset: 1, Reason: zero}},
		{"*01\r\n", resp.Error{Offset: 1, Reason: zero}},
		{"*-1\r\n", resp.Error{Offset: 1, Reason: "negative count of arguments gets no reply"}},
		{"*+1\r\n", resp.Error{Offset: 1, Reason: "length is not a number"}},
		{"*\r\n", resp.Error{Offset: 1, Reason: "length is empty"}},
		{"*1\n", resp.Error{Offset: 2, Reason: "LF without CR"}},
		{"*1\r$", resp.Error{Offset: 3, Reason: "CR without LF"}},
		{"*1 \r\n", resp.Error{Offset: 2, Reason: "length is not a number"}},
		{"*16777217\r\n", resp.Error{Offset: 8, Reason: "command of more than 1<<24 arguments", Limit: true}},
		{"*18446744073709551617\r\n", resp.Error{Offset: 8, Reason: "command of more than 1<<24 arguments", Limit: true}},
		{"*1\r\n:1\r\n", resp.Error{Offset: 4, Reason: "argument is not a bulk string (':')"}},
		{"*1\r\n*1\r\n", resp.Error{Offset: 4, Reason: "argument is not a bulk string ('*')"}},
		{"*1\r\n\r\n", resp.Error{Offset: 4, Reason: `argument is not a bulk string ('\r')`}},
		{"*1\r\n$-1\r\n", resp.Error{Offset: 5, Reason: "null or negative argument"}},
		{"*1\r\n$\r\n", resp.Error{Offset: 5, Reason: "length is empty"}},
		{"*1\r\n$00\r\n", resp.Error{Offset: 6, Reason: "length with a leading zero"}},
		{"*1\r\n$04\r\n", resp.Error{Offset: 6, Reason: "length with a leading zero"}},
		{"*1\r\n$04\r\nPING\r\n", resp.Error{Offset: 6, Reason: "length with a leading zero"}},
		{"*01\r\n$4\r\nPING\r\n", resp.Error{Offset: 1, Reason: zero}},
		{"*1\r\n$4x\r\n", resp.Error{Offset: 6, Reason: "length is not a number"}},
		{"*1\r\n$536870913\r\n", resp.Error{Offset: 13, Reason: "bulk string longer than 512 MiB", Limit: true}},
		{"*1\r\n$99999999999999999999999999999999999\r\n", resp.Error{Offset: 13, Reason: "bulk string longer than 512 MiB", Limit: true}},
		{"*1\r\n$4\r\nPINGS\r\n", resp.Error{Offset: 12, Reason: bulkEnd}},
		{"*1\r\n$4\r\nPING\n", resp.Error{Offset: 12, Reason: bulkEnd}},
		{"*1\r\n$4\r\nPING\r\r", resp.Error{Offset: 13, Reason: "CR without LF"}},
		{"*1\r\n$0\r\nx", resp.Error{Offset: 8, Reason: bulkEnd}},
	} {
		checkRequestError(t, tt.stream, tt.want)
	}
}

// checkRequestError scans the stream whole and byte by byte, and then more.
func checkRequestError(t *testing.T, stream string, want resp.Error) {
	t.Helper()
	for _, piece := range []int{len(stream), 1} {
		var s resp.RequestScanner
		var err error
		begin := 0
		for end := piece; err == nil && end <= len(stream); {
			n, done, e := s.Next([]byte(stream[begin:end]))
			begin += n
			err = e
			if !done || begin == end {
				end += piece
			}
		}
		for range 3 {
			checkError(t, stream, err, want)
			_, _, err = s.Next([]byte(request("PING")))
		}
		s.Reset()
		if n, done, err := s.Next([]byte(request("PING"))); n != 14 || !done || err != nil {
			t.Errorf("%.40q: after Reset Next = %d, %v, %v", stream, n, done, err)
		}
	}
}

func TestCommandsAtALimitPass(t *testing.T) {
	for _, begun := range []string{"*16777216\r\n", "*1\r\n$536870912\r\n"} {
		if diff := cmp.Diff(outcome{}, gotCommands([]byte(begun), whole)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", begun, diff)
		}
	}
}

func TestDiscardingWhatWasScannedChangesNoBoundary(t *testing.T) {
	stream := []byte(requestStream())
	want := gotCommands(stream, whole)
	for _, chunk := range []int{1, 2, 3, 5, 13, 64} {
		for _, keep := range []int{0, 1, 4} {
			if diff := cmp.Diff(want, discarding(t, stream, chunk, keep, false)); diff != "" {
				t.Errorf("chunk %d, keep %d (-want +got):\n%s", chunk, keep, diff)
			}
		}
		if diff := cmp.Diff(want, discarding(t, stream, chunk, 0, true)); diff != "" {
			t.Errorf("chunk %d, skipping (-want +got):\n%s", chunk, diff)
		}
	}
}

// discarding keeps no more than keep scanned bytes of an unfinished command, and
// may step over bodies.
func discarding(t *testing.T, stream []byte, chunk, keep int, skip bool) (out outcome) {
	t.Helper()
	var s resp.RequestScanner
	begin, end := 0, 0
	for end < len(stream) {
		end = min(len(stream), end+chunk)
		for begin < end {
			n, done, err := s.Next(stream[begin:end])
			if err != nil {
				t.Fatal(err)
			}
			if begin += n; !done {
				break
			}
			if args := requestScript[len(out.Ends)]; s.NumArgs() != len(args) {
				t.Fatalf("NumArgs %d of %.40q", s.NumArgs(), args)
			}
			out.Ends = append(out.Ends, begin)
			out.Kinds += "*"
		}
		if s.InCommand() && end-begin > keep {
			drop := end - begin - keep
			s.Discard(drop)
			begin += drop
			if s.Seen() != 0 {
				t.Fatalf("%d arguments seen after Discard", s.Seen())
			}
		}
		if left := s.BodyRemaining(); skip && left > 0 {
			for _, n := range []int64{left / 2, left - left/2} {
				s.Skip(n)
			}
			if s.BodyRemaining() != 0 {
				t.Fatalf("%d bytes remain of a skipped body", s.BodyRemaining())
			}
			begin, end = begin+int(left), end+int(left)
		}
	}
	return out
}

func TestOneScannerFindsTheArgumentsOfOneCommandAfterTheOther(t *testing.T) {
	var s resp.RequestScanner
	rest := []byte(requestStream())
	for _, args := range requestScript {
		n, done, err := s.Next(rest)
		if !done || err != nil {
			t.Fatalf("Next = %d, %v, %v", n, done, err)
		}
		if diff := cmp.Diff(args[:min(len(args), resp.MaxArgs)], recorded(&s, rest[:n])); diff != "" {
			t.Errorf("%.40q: arguments (-want +got):\n%s", args, diff)
		}
		rest = rest[n:]
	}
}

func TestNothingIsRecordedAfterADiscardUntilTheNextCommand(t *testing.T) {
	first, second := []byte(request("set", "k", "value")), []byte(request("get", "k"))
	for cut := 1; cut < len(first); cut++ {
		var s resp.RequestScanner
		if _, done, err := s.Next(first[:cut]); done || err != nil {
			t.Fatalf("Next = %v, %v", done, err)
		}
		s.Discard(cut)
		n, done, err := s.Next(first[cut:])
		if n != len(first)-cut || !done || err != nil || s.Seen() != 0 || s.NumArgs() != 3 {
			t.Fatalf("cut at %d: Next = %d, %v, %v with %d seen of %d", cut, n, done, err, s.Seen(), s.NumArgs())
		}
		if _, done, err := s.Next(second); !done || err != nil {
			t.Fatalf("Next = %v, %v", done, err)
		}
		if diff := cmp.Diff([]string{"get", "k"}, recorded(&s, second)); diff != "" {
			t.Errorf("arguments (-want +got):\n%s", diff)
		}
		_, _, err = s.Next([]byte("x"))
		checkError(t, "x", err, resp.Error{Offset: int64(len(first) + len(second)), Reason: "inline command ('x')"})
	}
}

func TestOffsetsCountBytesOfABodyThatNeverWereInTheBuffer(t *testing.T) {
	const begun = "*1\r\n$300000000\r\nab"
	var s resp.RequestScanner
	if _, _, err := s.Next([]byte(begun)); err != nil {
		t.Fatal(err)
	}
	if left := s.BodyRemaining(); left != 300000000-2 {
		t.Errorf("%d bytes remain of the body", left)
	}
	s.Discard(len(begun))
	s.Skip(s.BodyRemaining())
	_, _, err := s.Next([]byte("x"))
	checkError(t, "skipped", err, resp.Error{Offset: 300000016, Reason: "bulk string doesn't end with CRLF"})
}

func TestMisuseOfDiscardAndSkipPanics(t *testing.T) {
	for _, misuse := range []func(*resp.RequestScanner){
		func(s *resp.RequestScanner) { s.Discard(-1) },
		func(s *resp.RequestScanner) { s.Discard(10) },
		func(s *resp.RequestScanner) { s.Skip(1) }, // nothing was dropped
		func(s *resp.RequestScanner) { s.Discard(9); s.Skip(-1) },
		func(s *resp.RequestScanner) { s.Discard(9); s.Skip(4) },
		func(s *resp.RequestScanner) { s.Arg(0) },
	} {
		var s resp.RequestScanner
		if _, _, err := s.Next([]byte("*1\r\n$4\r\nP")); err != nil {
			t.Fatal(err)
		}
		checkPanic(t, func() { misuse(&s) })
	}
}

func TestScanningCommandsDoesNotAllocate(t *testing.T) {
	stream := []byte(requestStream())
	var s resp.RequestScanner
	allocs := testing.AllocsPerRun(100, func() {
		for p := stream; len(p) > 0; {
			if _, _, err := s.Next(p[:4]); err != nil {
				t.Fatal(err)
			}
			n, _, err := s.Next(p)
			if err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// Each byte of some commands is replaced by what could pass for right: however the
// pieces are cut, what is found is what a server would find.
func TestAWrongByteIsFoundInAnyPieces(t *testing.T) {
	stream := request("set", "key:1", "") + request("get", "0123456789") + request("mget", "a", "b") + request("ping")
	for at := range stream {
		for _, wrong := range "\r\n*$-01:3x" {
			p := []byte(stream)
			p[at] = byte(wrong)
			want := wantCommands(p)
			for _, piece := range []func() int{whole, oneByte} {
				if diff := cmp.Diff(want, gotCommands(p, piece)); diff != "" {
					t.Fatalf("%q (-want +got):\n%s", p, diff)
				}
			}
		}
	}
}

func FuzzRequestScanner(f *testing.F) {
	for i, args := range requestScript {
		f.Add([]byte(request(args...)), uint64(i))
	}
	f.Add([]byte(requestStream()), uint64(0))
	f.Add([]byte("*0\r\nPING\r\n"), uint64(0))
	f.Fuzz(func(t *testing.T, p []byte, seed uint64) {
		want := wantCommands(p)
		for _, piece := range []func() int{whole, oneByte, randomPieces(seed)} {
			if diff := cmp.Diff(want, gotCommands(p, piece)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		}
	})
}

func BenchmarkRequestScanner(b *testing.B) {
	for _, bb := range []struct {
		name string
		args []string
	}{
		{"get", []string{"get", "key:00042"}},
		{"set", []string{"set", "key:00042", strings.Repeat("v", 32)}},
		{"mget16", append([]string{"mget"}, strings.Split(strings.Repeat("key:00042 ", 15)+"key:00042", " ")...)},
	} {
		b.Run("command="+bb.name, func(b *testing.B) {
			p := []byte(request(bb.args...))
			var s resp.RequestScanner
			b.ReportAllocs()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, done, err := s.Next(p); !done || err != nil {
					b.Fatal(done, err)
				}
			}
		})
	}
}
