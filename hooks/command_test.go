package hooks_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/testkit"
)

func words(line string) (args []any) {
	for w := range strings.FieldsSeq(line) {
		args = append(args, w)
	}
	return args
}

func mixed(s string) string {
	b := []byte(strings.ToLower(s))
	for i := 0; i < len(b); i += 2 {
		b[i] = strings.ToUpper(string(b[i]))[0]
	}
	return string(b)
}

// forms are the ways in which the words of a command may be typed.
func forms(name string) map[string][]any {
	all := map[string][]any{
		"upper": words(strings.ToUpper(name)),
		"lower": words(strings.ToLower(name)),
		"mixed": words(mixed(name)),
	}
	var bytes, pointers []any
	for w := range strings.FieldsSeq(mixed(name)) {
		bytes, pointers = append(bytes, []byte(w)), append(pointers, &w)
	}
	all["bytes"], all["pointers"] = bytes, pointers
	return all
}

func TestCommandOfKnowsEveryCommandOfTheTableHoweverItIsTyped(t *testing.T) {
	n := 0
	for info := range command.All() {
		n++
		want := info.Name
		if info.Container && info.Name != "COMMAND" {
			want = hooks.Other // no command without its subcommand
		}
		for form, args := range forms(info.Name) {
			if c := hooks.CommandOf(cmd(args...)); c.Name != want || c.Known() != (want != hooks.Other) {
				t.Errorf("%s (%s): %+v", info.Name, form, c)
			}
			if info.Container {
				continue // an argument is a subcommand
			}
			if c := hooks.CommandOf(cmd(append(args, "key", 5)...)); c.Name != want {
				t.Errorf("%s key 5 (%s): %s", info.Name, form, c.Name)
			}
		}
	}
	if n < 600 {
		t.Errorf("%d commands in the table", n)
	}
	t.Logf("%d commands", n)
}

func TestCommandOfCallsTheRestOther(t *testing.T) {
	for name, args := range map[string][]any{
		"nothing":                     {},
		"unknown":                     {"MYSECRET", "x"},
		"empty":                       {""},
		"nil":                         {nil},
		"a number":                    {5, "GET"},
		"a nil string":                {(*string)(nil)},
		"a container alone":           {"CLIENT"},
		"unknown subcommand":          {"CLIENT", "MYSECRET"},
		"number as subcommand":        {"COMMAND", 5},
		"empty subcommand":            {"COMMAND", ""},
		"empty bytes as subcommand":   {"COMMAND", []byte{}},
		"nil as subcommand":           {"COMMAND", nil},
		"nil bytes as subcommand":     {"COMMAND", []byte(nil)},
		"both words in one":           {"CLIENT LIST"},
		"both words in one and space": {"CLIENT LIST", "LIST"},
		"with a space":                {"GET "},
		"with a zero":                 {"GET\x00"},
	} {
		if c := hooks.CommandOf(cmd(args...)); c.Name != hooks.Other || c.Known() || c.Access != hooks.AccessNone {
			t.Errorf("%s: %+v", name, c)
		}
	}
	for want, args := range map[string][]any{
		"COMMAND":      {"command"},
		"COMMAND DOCS": {"command", "docs", "get"},
		"CLIENT LIST":  {"client", []byte("List"), "TYPE", "normal"},
		"GET":          {"get", nil},
	} {
		if c := hooks.CommandOf(cmd(args...)); c.Name != want {
			t.Errorf("%v: %+v, want %s", args, c, want)
		}
	}
}

func TestCommandsHaveDenseIndexesAndUniqueNames(t *testing.T) {
	all := hooks.Commands()
	if len(all) != hooks.NumCommands() {
		t.Errorf("%d commands, NumCommands says %d", len(all), hooks.NumCommands())
	}
	names := map[string]bool{}
	for i, c := range all {
		if c.Index != i {
			t.Errorf("%s has index %d at %d", c.Name, c.Index, i)
		}
		if names[c.Name] {
			t.Errorf("%s twice", c.Name)
		}
		names[c.Name] = true
		if c.Lower != strings.ToLower(c.Name) || c.Pipeline != "PIPELINE "+c.Name || c.Transaction != "MULTI "+c.Name {
			t.Errorf("names of %+v", c)
		}
		if c.Known() && hooks.CommandOf(cmd(words(c.Name)...)) != c && !command.IsContainer([]byte(c.Name)) {
			t.Errorf("%s isn't found again", c.Name)
		}
	}
	if !names[hooks.Other] {
		t.Error("nothing for the others")
	}
	if all[0] = nil; hooks.Commands()[0] == nil {
		t.Error("Commands gives its own slice away")
	}
}

func TestAccessOfCommands(t *testing.T) {
	for access, names := range map[hooks.Access]string{
		hooks.AccessRead: `GET MGET TTL SCAN KEYS DBSIZE XREAD EVAL_RO SORT_RO XRANGE JSON.GET FT.SEARCH TS.MGET
			OBJECT/ENCODING ZRANGE RANDOMKEY`,
		hooks.AccessWrite: `SET DEL INCR GETDEL GETEX FLUSHALL EVAL FCALL XREADGROUP SORT BITFIELD JSON.SET BLPOP
			XGROUP/CREATE FT.CREATE MIGRATE`,
		hooks.AccessNone: "PING WATCH MULTI EXEC PUBLISH SPUBLISH SUBSCRIBE CLIENT/LIST CONFIG/GET HELLO SELECT INFO COMMAND",
	} {
		for name := range strings.FieldsSeq(names) {
			c := hooks.CommandOf(cmd(words(strings.ReplaceAll(name, "/", " "))...))
			if !c.Known() || c.Access != access {
				t.Errorf("%s: %s, want %s", name, c.Access, access)
			}
		}
	}
	if all := []string{
		hooks.AccessNone.String(), hooks.AccessRead.String(), hooks.AccessWrite.String(), hooks.Access(9).String(),
	}; strings.Join(all, " ") != "none read write 9" {
		t.Error(all)
	}
}

func TestCommandOfDoesNotAllocate(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector allocates")
	}
	sub := "list"
	for _, c := range []redis.Cmder{
		cmd("get", "k"), cmd("GeT", []byte("k")), cmd("client", &sub), cmd([]byte("unknown"), "x"), cmd("command", 5), cmd(),
	} {
		if n := testing.AllocsPerRun(100, func() { hooks.CommandOf(c) }); n != 0 {
			t.Errorf("%v: %v allocations", c.Args(), n)
		}
	}
}
