package hotkey_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/keyoracle"
	"github.com/everpool/everpool/internal/testkit"
)

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
	requests, err := keyoracle.Requests(t.Context(), rdb, knows)
	if err != nil {
		t.Fatal(err)
	}
	agreed, failed := 0, make(map[string]bool)
	for _, r := range requests {
		said, err := keyoracle.Keys(t.Context(), rdb, typed(r.Args)...)
		if err != nil {
			t.Errorf("%q: %v", r.Args, err)
		}
		var want []hooks.Key
		for _, k := range said {
			want = append(want, hooks.Key{Name: k.Name, Index: k.Index, Access: hooks.Access(k.Access)})
		}
		cmd := redis.NewCmd(t.Context(), typed(r.Args)...)
		keys := cmp.Diff(want, hooks.AppendKeys(nil, cmd))
		if keys != "" {
			t.Errorf("%q: -server +AppendKeys\n%s", r.Args, keys)
		}
		counts := cmp.Diff(countsOf(want), tracked(t, cmd))
		if counts != "" {
			t.Errorf("%q: -server +tracker\n%s", r.Args, counts)
		}
		ok := err == nil && keys == "" && counts == ""
		if ok {
			agreed++
		}
		failed[r.Info.Name] = failed[r.Info.Name] || !ok
	}
	var list []string
	for name, failed := range failed {
		if !failed {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	t.Logf("%s: %d of %d requests agree; %d commands: %s", kind, agreed, len(requests), len(list), strings.Join(list, ", "))
}

// typed is a request as a user of go-redis has it: numbers as numbers, some of the
// rest as bytes.
func typed(args []string) []any {
	all := make([]any, len(args))
	for i, a := range args {
		switch n, err := strconv.Atoi(a); {
		case err == nil:
			all[i] = n
		case i%3 == 2:
			all[i] = []byte(a)
		default:
			all[i] = a
		}
	}
	return all
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
		for _, c := range tracker.All(class, 32) {
			m[class.String()+" "+c.Key] = c.Count
		}
	}
	return m
}
