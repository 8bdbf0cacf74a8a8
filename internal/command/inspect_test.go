package command_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/keyoracle"
	"github.com/everpool/everpool/internal/resp"
)

// encode writes a request as a client does, with the places of its arguments.
func encode(args []string) ([]byte, []resp.Span) {
	buf := fmt.Appendf(nil, "*%d\r\n", len(args))
	var spans []resp.Span
	for _, a := range args {
		buf = fmt.Appendf(buf, "$%d\r\n", len(a))
		spans = append(spans, resp.Span{Start: int32(len(buf)), End: int32(len(buf) + len(a))})
		buf = fmt.Appendf(buf, "%s\r\n", a)
	}
	return buf, spans
}

// inspect shows what Inspect says of a request. "..." stands for arguments that
// aren't here: "... 3" for three of them.
func inspect(t *testing.T, line string) command.Facts {
	t.Helper()
	line, rest, cut := strings.Cut(line, " ... ")
	args := keyoracle.Args(line)
	buf, spans := encode(args)
	total := len(args)
	if cut {
		var n int
		if _, err := fmt.Sscan(rest, &n); err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return command.Inspect(buf, spans[:min(16, len(spans))], total)
}

func TestArgumentsDecideWhetherACommandBlocks(t *testing.T) {
	for line, blocks := range map[string]bool{
		"XREAD STREAMS a 0":                                      false,
		"XREAD COUNT 10 STREAMS a 0":                             false,
		"XREAD COUNT block STREAMS a 0":                          false, // refused, at once
		"XREAD STREAMS block 0":                                  false,
		"XREAD MAXCOUNT 1 MAXSIZE 2 STREAMS a 0":                 false,
		"XREAD BLOCK 0 STREAMS a $":                              true,
		"XREAD block 0 STREAMS a $":                              true,
		"xread count 1 bLoCk 0 streams a $":                      true,
		"XREAD WHATEVER 1 STREAMS a 0":                           true,
		"XREAD COUNT 1 ... 3":                                    true,
		"XREAD COUNT ... 3":                                      true,
		"XREAD STREAMS a ... 30":                                 false,
		"XREAD ... 30":                                           true,
		"XREADGROUP GROUP g c STREAMS a >":                       false,
		"XREADGROUP GROUP block block STREAMS a >":               false,
		"XREADGROUP GROUP block block COUNT 1 NOACK STREAMS a >": false,
		"XREADGROUP GROUP streams streams BLOCK 0 STREAMS a >":   true,
		"xreadgroup group g c block 0 streams a >":               true,
		"XREADGROUP GROUP g c CLAIM 100 STREAMS a >":             false,
		"XREADGROUP COUNT 1 GROUP BLOCK c STREAMS a >":           false,
		"XREADGROUP BLOCK 0 GROUP STREAMS c STREAMS a >":         true,
		"XREADGROUP GROUP g c ... 3":                             true,
		"TS.READ k 0":                                            false,
		"TS.READ block 0 MAX_COUNT 5":                            false,
		"TS.READ k 0 BLOCK 100 1":                                true,
		"TS.READ k 0 MAX_COUNT 5 block 100 1":                    true,
		"TS.READ k 0 ... 2":                                      true,
		"BLPOP k 0":                                              true,
		"BLMOVEM a b LEFT RIGHT 0":                               true,
		"WAIT 1 0":                                               true,
		"LPOP block":                                             false,
		"GET block":                                              false,
		"XREAD COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 BLOCK 0 STREAMS a 0": true,
	} {
		f := inspect(t, line)
		want := command.Shareable
		if blocks {
			want = command.Exclusive
		}
		if f.Blocking != blocks || f.Class != want {
			t.Errorf("%s: blocking %v, %v; want %v, %v", line, f.Blocking, f.Class, blocks, want)
		}
	}
}

func TestArgumentsDecideWhatASessionCommandSets(t *testing.T) {
	const pin = command.Pinning
	for line, want := range map[string]command.Facts{
		"HELLO":                               {Class: command.Exclusive},
		"HELLO 3":                             {Class: command.Session, Slots: command.SlotProto},
		"hello 2 auth u p":                    {Class: command.Session, Slots: command.SlotProto | command.SlotAuth},
		"HELLO 3 SETNAME n":                   {Class: command.Session, Slots: command.SlotProto | command.SlotName},
		"HELLO 3 SETNAME auth AUTH setname p": {Class: command.Session, Slots: command.SlotProto | command.SlotName | command.SlotAuth},
		"HELLO 3 SETNAME AUTH":                {Class: command.Session, Slots: command.SlotProto | command.SlotName},
		"HELLO 3 AUTH u p SetName n":          {Class: command.Session, Slots: command.SlotProto | command.SlotName | command.SlotAuth},
		"HELLO 3 NEWOPTION":                   {Class: pin, Pin: command.PinSession},
		"HELLO 3 ... 3":                       {Class: pin, Pin: command.PinSession},
		"AUTH p":                              {Class: command.Session, Slots: command.SlotAuth},
		"AUTH u p":                            {Class: command.Session, Slots: command.SlotAuth},
		"SELECT 3":                            {Class: command.Session, Slots: command.SlotDB},
		"READONLY":                            {Class: command.Session, Slots: command.SlotReadOnly},
		"readwrite":                           {Class: command.Session, Slots: command.SlotReadOnly},
		"CLIENT SETNAME n":                    {Class: command.Session, Slots: command.SlotName},
		"client setinfo lib-name x":           {Class: command.Session, Slots: command.SlotLibName},
		"CLIENT SETINFO LIB-VER 1":            {Class: command.Session, Slots: command.SlotLibVer},
		"CLIENT SETINFO LIB-COLOUR red":       {Class: pin, Pin: command.PinSession},
		"CLIENT SETINFO ... 2":                {Class: pin, Pin: command.PinSession},
		"CLIENT NO-EVICT on":                  {Class: command.Session, Slots: command.SlotNoEvict},
		"CLIENT NO-TOUCH on":                  {Class: command.Session, Slots: command.SlotNoTouch},
		"CLIENT CAPA redirect":                {Class: pin, Pin: command.PinSession},
	} {
		got := inspect(t, line)
		if d := cmp.Diff(want, got, cmpopts.IgnoreFields(command.Facts{}, "Info", "Fixed")); d != "" {
			t.Errorf("%s: -want +got\n%s", line, d)
		}
	}
}

func TestAnUnknownCommandPinsAndIsNeverSentTwice(t *testing.T) {
	unknown := command.Facts{Class: command.Pinning, Pin: command.PinUnknown, Effect: command.Unsafe}
	for _, line := range []string{
		"MYMODULE.DO x", "CLIENT", "CLIENT NOSUCH", "CLIENT ... 2", "CONFIG", "GETX k", "GE k", `"" x`, `CLIENT ""`,
		strings.Repeat("X", 48), strings.Repeat("X", 4000), "CLIENT " + strings.Repeat("X", 4000),
		"CLIENT " + strings.Repeat("X", 41), "CLIENT " + strings.Repeat("X", 42),
	} {
		if d := cmp.Diff(unknown, inspect(t, line)); d != "" {
			t.Errorf("%.50s: -want +got\n%s", line, d)
		}
	}
	for _, args := range [][]string{{"CLIENT SETNAME", "x"}, {"CLIENT\x00SETNAME"}, {"GET "}, {" GET"}, {"GET\r\n"}} {
		buf, spans := encode(args)
		if d := cmp.Diff(unknown, command.Inspect(buf, spans, len(args))); d != "" {
			t.Errorf("%q: -want +got\n%s", args, d)
		}
	}
	if d := cmp.Diff(unknown, command.Inspect(nil, nil, 3)); d != "" {
		t.Errorf("nothing seen: -want +got\n%s", d)
	}
}

func TestNamesAreFoundInAnyCase(t *testing.T) {
	for info := range command.All() {
		first, sub, isSub := strings.Cut(info.Name, " ")
		if command.IsContainer([]byte(strings.ToLower(first))) != (isSub || info.Container) {
			t.Errorf("%s: is it a container?", info.Name)
		}
		want := info
		if info.Container && info.Arity != -1 {
			want = nil // named by its subcommand only
		}
		for _, f := range []func(string) string{strings.ToUpper, strings.ToLower, strings.ToTitle} {
			var s []byte
			if isSub {
				s = []byte(f(sub))
			}
			if got := command.Lookup([]byte(f(first)), s); got != want {
				t.Errorf("%s: found %v", f(info.Name), got)
			}
		}
		if !isSub && !info.Container && command.Lookup([]byte(first), []byte("whatever")) != info {
			t.Errorf("%s isn't found before an argument", first)
		}
	}
	if command.Lookup([]byte("COMMAND"), nil) == nil {
		t.Error("COMMAND is a command by itself")
	}
}

// Inspect must never panic, whatever of a request is there, and what it says
// with fewer arguments must not be better than with all of them.
func TestSeeingLessOfARequestIsNeverBetter(t *testing.T) {
	lines := []string{
		"SET k v EX 10", "ZADD k 1 a", "ZADD k NX 1 a", "GEOADD k 1 2 m", "HELLO 3 AUTH u p SETNAME n", "GETEX k EX 1",
		"JSON.SET k $ 1", "JSON.SET k $ 1 NX", "HSETEX k EX 1 FIELDS 1 a b", "HSETEX k FNX FIELDS 1 a b", "HGETEX k FIELDS 1 a",
		"ACL LOG RESET", "ACL LOG 10", "CLIENT SETINFO LIB-NAME x", "TS.READ k 0 BLOCK 1 1", "INCR k",
		"XREAD BLOCK 0 STREAMS a 0", "SET k v NX GET",
	}
	var requests [][]string
	for _, line := range lines {
		requests = append(requests, keyoracle.Args(line))
	}
	for _, r := range keyoracle.Odd() {
		requests = append(requests, r.Args)
	}
	for _, args := range requests {
		buf, spans := encode(args)
		all := command.Inspect(buf, spans, len(args))
		for n := range spans {
			part := command.Inspect(buf, spans[:n], len(args))
			if part.Effect < all.Effect || all.Blocking && !part.Blocking && part.Info != nil {
				t.Errorf("%q, %d seen: %v, blocking %v; in full %v, blocking %v",
					args, n, part.Effect, part.Blocking, all.Effect, all.Blocking)
			}
		}
	}
}

func TestLookupAndInspectDoNotAllocate(t *testing.T) {
	for _, line := range []string{
		"GET k", "get k", "CLIENT SETNAME n", "HELLO 3 AUTH u p", "XREADGROUP GROUP g c BLOCK 0 STREAMS a >", "SET k v EX 1",
		"NOSUCH k", "BITFIELD k GET u8 0", "JSON.SET k $ 1", "SORT k",
	} {
		buf, spans := encode(keyoracle.Args(line))
		var f command.Facts
		if n := testing.AllocsPerRun(100, func() { f = command.Inspect(buf, spans, len(spans)) }); n != 0 {
			t.Errorf("%s: %v allocations, %v", line, n, f)
		}
	}
	name, sub := []byte("client"), []byte("setname")
	if n := testing.AllocsPerRun(100, func() { _ = command.Lookup(name, sub); _ = command.IsContainer(name) }); n != 0 {
		t.Errorf("Lookup: %v allocations", n)
	}
}

func TestTheWordsForLogsAndMetrics(t *testing.T) {
	for got, want := range map[fmt.Stringer]string{
		command.Shareable: "shareable", command.Local: "local", command.Class(9): "9",
		command.PinNone: "none", command.PinClientID: "client-id", command.PinSession: "session", command.PinUnknown: "unknown",
		command.Read: "read", command.Idempotent: "idempotent", command.Unsafe: "unsafe",
		command.TxUnwatch: "unwatch", command.AccessWrite: "write", command.RM: "RM",
		command.SlotProto | command.SlotNoTouch: "proto,no-touch", command.Slots(0): "none",
		command.FlagAdmin | command.FlagWrite: "admin,write",
	} {
		if got.String() != want {
			t.Errorf("%T %q, want %q", got, got, want)
		}
	}
}

func BenchmarkInspect(b *testing.B) {
	for _, line := range []string{
		"GET key:000000001", "get key:000000001", "SET k v EX 10", "CLIENT SETNAME n", "MYMODULE.DO x",
		"XREADGROUP GROUP g c COUNT 10 BLOCK 0 STREAMS a >",
	} {
		buf, spans := encode(keyoracle.Args(line))
		b.Run("request="+line, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				command.Inspect(buf, spans, len(spans))
			}
		})
	}
}

// Whatever Inspect calls fixed is the same with any other arguments.
func TestFixedFactsDependOnNoArgument(t *testing.T) {
	words := []string{"x", "1", "-inf", "GET", "SET", "EX", "NX", "BLOCK", "AUTH", "SETNAME", "RESET", "STORE", "STREAMS", "FIELDS", "PERSIST", "LIB-NAME", "COUNT", "$"}
	fixed := 0
	for info := range command.All() {
		name, _, _ := strings.Cut(info.Name, " ")
		for total := 1; total <= 5; total++ {
			args := append([]string{name}, slices.Repeat([]string{"x"}, total-1)...)
			buf, spans := encode(args)
			want := command.Inspect(buf, spans, total)
			if !want.Fixed {
				continue
			}
			fixed++
			for i := 1; i < total; i++ {
				for _, w := range words {
					other := slices.Clone(args)
					other[i] = w
					buf, spans := encode(other)
					if got := command.Inspect(buf, spans, total); got != want {
						t.Errorf("%q: %+v; %q: %+v", args, want, other, got)
					}
				}
			}
		}
	}
	if fixed < 1000 {
		t.Errorf("only %d are fixed", fixed)
	}
}
