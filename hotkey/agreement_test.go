package hotkey_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/testkit"
)

// odd are requests whose keys the shape of the command alone doesn't give.
var odd = []string{
	"SET k v", "SET k v GET", "SET k v EX 10 get", "BITFIELD k GET u8 0", "BITFIELD k get u8 0 GET u8 8",
	"BITFIELD k SET u8 0 1", "BITFIELD k OVERFLOW SAT GET u8 0", "BITFIELD k GET u8 0 INCRBY u8 0 1",
	"SORT k", "SORT k BY w_* LIMIT 0 5 GET # DESC", "SORT k STORE d", "sort k by store store d",
	"SORT k GET store LIMIT 0 store STORE d", "SORT k STORE d STORE e", "SORT_RO k BY w_*",
	"MIGRATE h 1 k 0 10 COPY REPLACE", `MIGRATE h 1 "" 0 10 KEYS a b c`, `MIGRATE h 1 "" 0 10 COPY AUTH2 u p keys a b`,
	"GEORADIUS k 1 2 3 km STORE d", "GEORADIUS k 1 2 3 km COUNT 1 storedist d", "GEORADIUSBYMEMBER k store 3 km ASC STOREDIST d",
	"XREAD STREAMS a b 0 0", "XREAD COUNT 1 BLOCK 0 streams a 0", "XREADGROUP GROUP streams c STREAMS a b c > > >",
	"EVAL s 2 a b c", "EVAL s 0", "EVALSHA s 1 a", "EVAL_RO s 1 a x", "FCALL f 1 a b", "FCALL_RO f 2 a b",
	"ZUNIONSTORE d 2 a b WEIGHTS 1 2", "ZDIFF 1 a WITHSCORES", "LMPOP 2 a b LEFT", "BZMPOP 0 1 a MIN",
	"MSET a 1 b 2", "BLPOP a b c 0", "BITOP AND d a b", "LCS a b LEN", "WATCH a b", "OBJECT ENCODING k",
	"XGROUP CREATE s g 0 MKSTREAM", "RENAME a b", "COPY a b REPLACE", "PFCOUNT a b", "DEL a b c", "DEL a a",
}

func TestKeysAndClassesAgreeWithRedis(t *testing.T) {
	agree(t, testkit.Redis, func(i *command.Info) bool { return i.Redis })
}

func TestKeysAndClassesAgreeWithValkey(t *testing.T) {
	agree(t, testkit.Valkey, func(i *command.Info) bool { return i.Valkey })
}

// agree asks the server for the keys of requests of every command that has keys,
// and compares them with those of go-redis's commands, and with what a tracker
// counts for those.
func agree(t *testing.T, kind testkit.Kind, knows func(*command.Info) bool) {
	rdb := redis.NewClient(&redis.Options{Addr: testkit.Start(t, kind).Addr, Protocol: 2})
	t.Cleanup(func() { _ = rdb.Close() })
	requests, agreed := 0, 0
	var list []string
	ask := func(args []string) (ok bool) {
		requests++
		want := oracle(t, rdb, args)
		cmd := redis.NewCmd(t.Context(), typed(args)...)
		ok = true
		if d := cmp.Diff(want, hooks.AppendKeys(nil, cmd)); d != "" {
			ok = false
			t.Errorf("%s: -server +AppendKeys\n%s", strings.Join(args, " "), d)
		}
		if d := cmp.Diff(countsOf(want), tracked(t, cmd)); d != "" {
			ok = false
			t.Errorf("%s: -server +tracker\n%s", strings.Join(args, " "), d)
		}
		if ok {
			agreed++
		}
		return ok
	}
	for info := range command.All() {
		if !knows(info) || len(info.Keys) == 0 || info.Container {
			continue
		}
		all := samples(info, arity(t, rdb, info))
		if len(all) == 0 {
			t.Errorf("%s: no sample", info.Name)
		}
		ok := true
		for _, args := range all {
			ok = ask(args) && ok
		}
		if ok {
			list = append(list, info.Name)
		}
	}
	for _, line := range odd {
		ask(strings.Fields(strings.ReplaceAll(line, `""`, "\x00")))
	}
	t.Logf("%s: %d of %d requests agree; %d commands: %s", kind, agreed, requests, len(list), strings.Join(list, ", "))
}

// arity is the server's: the table has that of the newest.
func arity(t *testing.T, rdb *redis.Client, info *command.Info) int {
	t.Helper()
	reply, err := rdb.Do(t.Context(), "COMMAND", "INFO", strings.ReplaceAll(info.Name, " ", "|")).Slice()
	if err != nil || len(reply) != 1 || reply[0] == nil {
		t.Fatalf("COMMAND INFO %s: %v, %v", info.Name, reply, err)
	}
	return int(reply[0].([]any)[1].(int64))
}

// samples makes requests of several lengths that satisfy arity and key specs.
func samples(info *command.Info, arity int) (all [][]string) {
	least, most := arity, arity
	if arity < 0 {
		least, most = -arity, -arity+7
	}
	for n := max(2, least); n <= most; n++ {
		args := strings.Fields(info.Name)
		for i := len(args); i < n; i++ {
			args = append(args, "arg"+strconv.Itoa(i))
		}
		if suit(args, info.Keys) {
			all = append(all, args)
		}
	}
	return all
}

// suit puts what the specs want into a request, or reports that it has no room.
func suit(args []string, specs []command.KeySpec) bool {
	n, ok := len(args), true
	for _, k := range specs {
		at := int(k.At)
		switch {
		case k.Begin == command.BeginIndex && at >= n:
			ok = false
		case k.Begin == command.BeginKeyword && k.Keyword == "STREAMS":
			if ids := n - at - 1; ids <= 0 || ids%2 != 0 {
				return false
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
	return ok
}

// typed is a request as a user of go-redis has it: numbers as numbers, some of the
// rest as bytes. A lone NUL stands for an empty argument.
func typed(args []string) []any {
	all := make([]any, len(args))
	for i, a := range args {
		switch n, err := strconv.Atoi(a); {
		case err == nil:
			all[i] = n
		case a == "\x00":
			all[i] = ""
		case i%3 == 2:
			all[i] = []byte(a)
		default:
			all[i] = a
		}
	}
	return all
}

// oracle asks the server. That it refuses a request because it has no keys is an
// answer too.
func oracle(t *testing.T, rdb *redis.Client, args []string) []hooks.Key {
	t.Helper()
	reply, err := rdb.Do(t.Context(), append([]any{"COMMAND", "GETKEYSANDFLAGS"}, typed(args)...)...).Slice()
	if err != nil {
		if strings.Contains(err.Error(), "no key arguments") || len(args) > 2 && args[2] == "0" {
			return nil
		}
		t.Errorf("%s: %v", strings.Join(args, " "), err)
		return nil
	}
	var keys []hooks.Key
	from := 1
	for _, r := range reply {
		name := r.([]any)[0].(string)
		from += slices.Index(args[from:], name) + 1
		flags := fmt.Sprint(r.([]any)[1])
		keys = append(keys, hooks.Key{Name: name, Index: from - 1, Access: oracleAccess(args[0], flags)})
	}
	return keys
}

func oracleAccess(name, flags string) hooks.Access {
	switch {
	case strings.EqualFold(name, "WATCH"): // says RO, but reads nothing
		return hooks.AccessNone
	case strings.Contains(flags, "RO"):
		return hooks.AccessRead
	case strings.Contains(flags, "RW"), strings.Contains(flags, "OW"), strings.Contains(flags, "RM"):
		return hooks.AccessWrite
	}
	return 99
}

// countsOf is what keys count for: "reads a" twice, and so on.
func countsOf(keys []hooks.Key) map[string]uint64 {
	m := make(map[string]uint64)
	for _, k := range keys {
		switch k.Access {
		case hooks.AccessRead:
			m["reads "+k.Name]++
		case hooks.AccessWrite:
			m["writes "+k.Name]++
		}
	}
	return m
}

// tracked is what a tracker counts for a command.
func tracked(t *testing.T, cmd redis.Cmder) map[string]uint64 {
	t.Helper()
	tracker, err := hotkey.New(everything())
	if err != nil {
		t.Fatal(err)
	}
	defer tracker.Close()
	tracker.End(context.Background(), &hooks.Operation{Cmds: []redis.Cmder{cmd}})
	m := make(map[string]uint64)
	for _, class := range []hotkey.Class{hotkey.Reads, hotkey.Writes} {
		for _, c := range tracker.Top(class, 32) {
			m[class.String()+" "+c.Key] = c.Count
		}
	}
	return m
}
