package command_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
)

// odd are requests whose keys the shape of the command alone doesn't give.
var odd = []string{
	"SET k v", "SET k v GET", "SET k v EX 10 get", "SET k v NX",
	"BITFIELD k GET u8 0", "BITFIELD k get u8 0 GET u8 8", "BITFIELD k SET u8 0 1",
	"BITFIELD k GET u8 0 INCRBY u8 0 1", "BITFIELD k OVERFLOW SAT GET u8 0",
	"BITFIELD k OVERFLOW SAT INCRBY u8 0 1", "BITFIELD k",
	"SORT k", "SORT k BY w_* LIMIT 0 5 GET # DESC", "SORT k STORE d", "sort k by store store d",
	"SORT k GET store LIMIT 0 store STORE d", "SORT k STORE d STORE e", "SORT_RO k BY w_*",
	"MIGRATE h 1 k 0 10", "MIGRATE h 1 k 0 10 COPY REPLACE", "MIGRATE h 1 k 0 10 AUTH p",
	`MIGRATE h 1 "" 0 10 KEYS a b c`, `MIGRATE h 1 "" 0 10 COPY AUTH2 u p keys a b`,
	"GEORADIUS k 1 2 3 km", "GEORADIUS k 1 2 3 km STORE d", "GEORADIUS k 1 2 3 km COUNT 1 storedist d",
	"GEORADIUSBYMEMBER k m 3 km", "GEORADIUSBYMEMBER k m 3 km STORE d",
	"GEORADIUSBYMEMBER k store 3 km ASC STOREDIST d", "GEORADIUS_RO k 1 2 3 km", "GEORADIUSBYMEMBER_RO k m 3 km",
	"XREAD STREAMS a b 0 0", "XREAD COUNT 1 BLOCK 0 streams a 0",
	"XREADGROUP GROUP streams c STREAMS a b c > > >", "XREADGROUP GROUP g streams COUNT 1 NOACK STREAMS a >",
	"EVAL s 2 a b c", "EVAL s 0", "EVALSHA s 1 a", "EVAL_RO s 1 a x", "EVALSHA_RO s 0 x",
	"FCALL f 1 a b", "FCALL_RO f 2 a b", "EVAL s 0 a",
	"ZUNIONSTORE d 2 a b WEIGHTS 1 2", "ZDIFF 1 a WITHSCORES", "LMPOP 2 a b LEFT", "BLMPOP 0 2 a b LEFT",
	"BZMPOP 0 1 a MIN", "SINTERCARD 2 a b LIMIT 1", "MSET a 1 b 2", "MSETNX a 1 b 2 c 3",
	"BLPOP a b c 0", "BITOP AND d a b", "LCS a b LEN", "WATCH a b", "OBJECT ENCODING k", "MEMORY USAGE k SAMPLES 5",
	"XGROUP CREATE s g 0 MKSTREAM", "XINFO STREAM s FULL", "RENAME a b", "COPY a b REPLACE",
	"PFCOUNT a b", "PFDEBUG GETREG k", "DEL a b c", "RESTORE-ASKING k 0 v",
}

func TestKeysAgreeWithRedis(t *testing.T)  { agree(t, server(t, "redis-server"), isRedis) }
func TestKeysAgreeWithValkey(t *testing.T) { agree(t, server(t, "valkey-server"), isValkey) }

func isRedis(i *command.Info) bool  { return i.Redis }
func isValkey(i *command.Info) bool { return i.Valkey }

// agree compares with COMMAND GETKEYSANDFLAGS for requests of every command that
// has keys, and for the odd ones.
func agree(t *testing.T, rdb *redis.Client, knows func(*command.Info) bool) {
	commands, requests := 0, 0
	said := answers(t, rdb)
	ask := func(info *command.Info, args []string) {
		t.Helper()
		requests++
		if d := cmp.Diff(oracle(t, rdb, args), keysOf(info, args)); d != "" {
			t.Errorf("%s: -server +AppendKeys\n%s", strings.Join(args, " "), d)
		}
	}
	for info := range command.All() {
		if !knows(info) || len(info.Keys) == 0 || info.Container {
			continue
		}
		all := samples(info, int(said[info.Name].Arity))
		if len(all) == 0 {
			t.Errorf("%s: no sample", info.Name)
		}
		commands++
		for _, args := range all {
			ask(info, args)
		}
	}
	for _, line := range odd {
		args := request(line)
		info := command.Lookup([]byte(args[0]), []byte(args[1]))
		if info == nil {
			t.Fatalf("%s: unknown", line)
		}
		ask(info, args)
	}
	t.Logf("%d commands, %d requests", commands, requests)
}

func request(line string) []string {
	args := strings.Fields(line)
	for i := range args {
		if args[i] == `""` {
			args[i] = ""
		}
	}
	return args
}

// samples makes requests of several lengths that satisfy arity and key specs.
func samples(info *command.Info, least int) (all [][]string) {
	lengths := []int{least}
	if least < 0 {
		least = -least
		lengths = nil
		for n := least; n < least+8; n++ {
			lengths = append(lengths, n)
		}
	}
	for _, n := range lengths {
		args := strings.Fields(info.Name)
		for i := len(args); i < n; i++ {
			args = append(args, "arg"+strconv.Itoa(i))
		}
		ok := n > 1 // COMMAND wants an argument
		for _, k := range info.Keys {
			at := int(k.At)
			switch {
			case k.Begin == command.BeginIndex && at >= n:
				ok = false // PFMERGE d is fine, but not for COMMAND
			case k.Begin == command.BeginKeyword && k.Keyword == "STREAMS":
				if (n-at-1)%2 != 0 || n-at-1 == 0 {
					ok = false // a key without an id
					break
				}
				args[at] = k.Keyword
			case k.Find == command.FindKeynum:
				num := min(2, n-at-int(k.NumAt)-1)
				args[at+int(k.NumAt)] = strconv.Itoa(num)
				ok = ok && num > 0
			case k.Find == command.FindRange && k.Step > 1:
				ok = ok && (n-at)%int(k.Step) == 0
			}
		}
		if ok {
			all = append(all, args)
		}
	}
	return all
}

// oracle asks the server. That it refuses a request because it has no keys is an
// answer too.
func oracle(t *testing.T, rdb *redis.Client, args []string) []command.Key {
	t.Helper()
	do := []any{"COMMAND", "GETKEYSANDFLAGS"}
	for _, a := range args {
		do = append(do, a)
	}
	reply, err := rdb.Do(t.Context(), do...).Slice()
	if err != nil {
		if strings.Contains(err.Error(), "no key arguments") || len(args) > 2 && args[2] == "0" {
			return nil
		}
		t.Errorf("%s: %v", strings.Join(args, " "), err)
		return nil
	}
	var keys []command.Key
	from := 0
	for _, r := range reply {
		k := r.([]any)
		at := place(args, k[0].(string), &from)
		keys = append(keys, command.Key{Index: at, Access: oracleAccess(args[0], words(k[1]))})
	}
	return keys
}

// place finds a key among the arguments: the first at or after the last key
// found that reads the same.
func place(args []string, key string, from *int) int {
	for i := max(1, *from); i < len(args); i++ {
		if args[i] == key {
			*from = i + 1
			return i
		}
	}
	return -1
}

func oracleAccess(name, flags string) command.Access {
	switch {
	case strings.EqualFold(name, "WATCH"): // says RO, but reads nothing
		return command.AccessNone
	case strings.Contains(flags, "RO"):
		return command.AccessRead
	case strings.Contains(flags, "RW"), strings.Contains(flags, "OW"), strings.Contains(flags, "RM"):
		return command.AccessWrite
	}
	return 99
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
		args := request(line)
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
		for _, a := range request(line) {
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
	for _, line := range odd {
		f.Add(line)
	}
	f.Add("EVAL s 2 a")
	f.Add("SORT k LIMIT")
	f.Fuzz(func(t *testing.T, line string) {
		args := request(line)
		for info := range command.All() {
			for _, k := range keysOf(info, args) {
				if k.Index < 1 || k.Index >= len(args) {
					t.Fatalf("%s %s: key %d of %d", info.Name, line, k.Index, len(args))
				}
			}
		}
	})
}
