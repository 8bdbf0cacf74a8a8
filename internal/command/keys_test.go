package command_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/keyoracle"
	"github.com/everpool/everpool/internal/testkit"
)

func TestKeysAgreeWithRedis(t *testing.T)  { agree(t, server(t, testkit.Redis), isRedis) }
func TestKeysAgreeWithValkey(t *testing.T) { agree(t, server(t, testkit.Valkey), isValkey) }

func isRedis(i *command.Info) bool  { return i.Redis }
func isValkey(i *command.Info) bool { return i.Valkey }

// agree compares with COMMAND GETKEYSANDFLAGS for requests of every command that
// has keys, and for odd ones.
func agree(t *testing.T, rdb *redis.Client, knows func(*command.Info) bool) {
	requests, err := keyoracle.Requests(t.Context(), rdb, knows)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requests {
		said, err := keyoracle.Keys(t.Context(), rdb, anys(r.Args)...)
		if err != nil {
			t.Errorf("%q: %v", r.Args, err)
		}
		var want []command.Key
		for _, k := range said {
			want = append(want, command.Key{Index: k.Index, Access: k.Access})
		}
		if d := cmp.Diff(want, keysOf(r.Info, r.Args)); d != "" {
			t.Errorf("%q: -server +AppendKeys\n%s", r.Args, d)
		}
	}
	t.Logf("%d requests", len(requests))
}

func anys(args []string) (all []any) {
	for _, a := range args {
		all = append(all, a)
	}
	return all
}

func keysOf(info *command.Info, args []string) []command.Key {
	b := make([][]byte, len(args))
	for i := range args {
		b[i] = []byte(args[i])
	}
	return info.AppendKeys(nil, b)
}

func TestKeysOfWhatTheServersDontKnow(t *testing.T) {
	const r, w = command.AccessRead, command.AccessWrite
	for line, want := range map[string][]command.Key{
		"JSON.MGET a b c $":                      {{Index: 1, Access: r}, {Index: 2, Access: r}, {Index: 3, Access: r}},
		"JSON.MSET a $ 1 b $ 2":                  {{Index: 1, Access: w}, {Index: 4, Access: w}},
		"JSON.DEBUG MEMORY k $":                  {{Index: 2, Access: r}},
		"TS.MADD a 1 1 b 2 2":                    {{Index: 1, Access: w}, {Index: 4, Access: w}},
		"TS.NRANGE 2 a b - +":                    {{Index: 2, Access: r}, {Index: 3, Access: r}},
		"MSETEX 2 a 1 b 2 EX 10":                 {{Index: 2, Access: w}, {Index: 4, Access: w}},
		"CMS.MERGE d 2 a b WEIGHTS 1 2":          {{Index: 1, Access: w}, {Index: 3, Access: r}, {Index: 4, Access: r}},
		"FT.SEARCH idx *":                        nil,
		"HIMPORT SET k f v":                      {{Index: 2, Access: w}},
		"HIMPORT PREPARE f a b":                  nil,
		"VSIM k ELE a":                           {{Index: 1, Access: r}},
		"SUNIONCARD 2 a b LIMIT 1":               {{Index: 2, Access: r}, {Index: 3, Access: r}},
		"BLMOVEM a b LEFT RIGHT 0 COUNT":         {{Index: 1, Access: w}, {Index: 2, Access: w}},
		"SPUBLISH channel message":               nil,
		"SSUBSCRIBE a b":                         nil,
		"EVAL s 99 a b":                          nil, // more keys than arguments
		"EVAL s -1 a b":                          nil,
		"EVAL s x a b":                           nil,
		"EVAL s 99999999999999999999 a b":        nil,
		"EVAL s":                                 nil,
		"XREAD COUNT 1":                          nil,
		"MSET a":                                 {{Index: 1, Access: w}},
		"GET":                                    nil,
		"SORT":                                   nil,
		"MIGRATE h":                              nil,
		"MIGRATE h 1 \"\" 0 10 AUTH keys KEYS a": {{Index: 9, Access: w}},
	} {
		args := keyoracle.Args(line)
		var sub []byte
		if len(args) > 1 {
			sub = []byte(args[1])
		}
		info := command.Lookup([]byte(args[0]), sub)
		if info == nil {
			t.Errorf("%s: unknown", line)
			continue
		}
		if d := cmp.Diff(want, keysOf(info, args)); d != "" {
			t.Errorf("%s: -want +got\n%s", line, d)
		}
	}
}

func TestAppendKeysDoesNotAllocateIntoARoomySlice(t *testing.T) {
	dst := make([]command.Key, 0, 8)
	for _, line := range []string{"GET k", "MSET a 1 b 2", "XREAD COUNT 1 STREAMS a 0", "SORT k STORE d", "EVAL s 1 a"} {
		var args [][]byte
		for _, a := range keyoracle.Args(line) {
			args = append(args, []byte(a))
		}
		info := command.Lookup(args[0], args[1])
		if n := testing.AllocsPerRun(100, func() { dst = info.AppendKeys(dst[:0], args) }); n != 0 {
			t.Errorf("%s: %v allocations", line, n)
		}
	}
}

// Whatever the arguments, AppendKeys finds keys among them and doesn't panic.
func FuzzAppendKeys(f *testing.F) {
	for _, r := range keyoracle.Odd() {
		f.Add(strings.ReplaceAll(strings.Join(r.Args, " "), "  ", ` "" `))
	}
	f.Add("EVAL s 2 a")
	f.Add("SORT k LIMIT")
	f.Fuzz(func(t *testing.T, line string) {
		args := keyoracle.Args(line)
		for info := range command.All() {
			for _, k := range keysOf(info, args) {
				if k.Index < 1 || k.Index >= len(args) {
					t.Fatalf("%s %s: key %d of %d", info.Name, line, k.Index, len(args))
				}
			}
		}
	})
}
