package command_test

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/testkit"
)

// answer is what COMMAND says of a command, in comparable form.
type answer struct {
	Container bool
	Arity     int64
	Flags     string
	Keys      []command.KeySpec
}

// Where the older server differs, the newer one's answer is in the table.
var redis70 = map[string]answer{
	"BLMOVE":     {Flags: "blocking,denyoom,noscript,write"},
	"BLPOP":      {Flags: "blocking,noscript,write"},
	"BRPOP":      {Flags: "blocking,noscript,write"},
	"BRPOPLPUSH": {Flags: "blocking,denyoom,noscript,write"},
	"BZPOPMAX":   {Flags: "blocking,fast,noscript,write"},
	"BZPOPMIN":   {Flags: "blocking,fast,noscript,write"},
	"WAIT":       {Flags: "noscript"},

	"CLUSTER INFO": {Flags: "stale"}, "CLUSTER MYID": {Flags: "stale"},
	"CLUSTER NODES": {Flags: "stale"}, "CLUSTER SHARDS": {Flags: "stale"},
	"CLUSTER SLOTS": {Flags: "stale"},

	"MULTI": {Flags: "allow_busy,fast,loading,noscript,stale"},
	"WATCH": {Flags: "allow_busy,fast,loading,noscript,stale"},

	"COMMAND GETKEYS":         {Arity: -4},
	"COMMAND GETKEYSANDFLAGS": {Arity: -4},
	"ZRANK":                   {Arity: 3},
	"ZREVRANK":                {Arity: 3},

	"SINTERSTORE": {Keys: []command.KeySpec{
		{Mode: command.RW, Begin: command.BeginIndex, At: 1, Find: command.FindRange, Step: 1},
		{Mode: command.RO, Begin: command.BeginIndex, At: 2, Find: command.FindRange, Last: -1, Step: 1},
	}},
}

func TestTheTableHoldsWhatRedisAnswers(t *testing.T) {
	rdb := server(t, testkit.Redis)
	for name, got := range answers(t, rdb) {
		want := inTable(t, name)
		if !known(name).Redis {
			t.Errorf("%s: the table says that Redis doesn't know it", name)
		}
		older := redis70[name]
		if older.Flags != "" {
			want.Flags = older.Flags
		}
		if older.Arity != 0 {
			want.Arity = older.Arity
		}
		if older.Keys != nil {
			want.Keys = older.Keys
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: -table +server\n%s", name, d)
		}
	}
}

func TestTheTableHoldsWhatValkeyAnswers(t *testing.T) {
	rdb := server(t, testkit.Valkey)
	n := 0
	for name, got := range answers(t, rdb) {
		n++
		if !known(name).Valkey {
			t.Errorf("%s: the table says that Valkey doesn't know it", name)
		}
		if d := cmp.Diff(inTable(t, name), got); d != "" {
			t.Errorf("%s: -table +server\n%s", name, d)
		}
	}
	for info := range command.All() {
		if info.Valkey {
			n--
		}
	}
	if n != 0 {
		t.Errorf("the table has %d commands of Valkey that it doesn't list", -n)
	}
}

func TestTheTableIsWhatItsGeneratorWrites(t *testing.T) {
	for _, kind := range testkit.Kinds {
		server(t, kind) // it starts its own, but can't skip the test where there is none
	}
	cmd := exec.Command("go", "run", "./gen", "-o", "-")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	if !bytes.Contains(got, []byte(command.GeneratedFrom)) {
		t.Skipf("the servers here aren't the table's, %s", command.GeneratedFrom)
	}
	want, err := os.ReadFile("table.go")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("go generate would change table.go: -is +would be\n%s", d)
	}
}

func TestTheTableIsInOrderAndEveryNameOnce(t *testing.T) {
	var names []string
	for info := range command.All() {
		names = append(names, info.Name)
	}
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Error("names aren't sorted, or not unique")
	}
	t.Logf("%d commands and containers", len(names))
}

func TestClassesPinsAndSlotsGoTogether(t *testing.T) {
	for info := range command.All() {
		if (info.Class == command.Pinning) != (info.Pin != command.PinNone) {
			t.Errorf("%s: class %v with pin %v", info.Name, info.Class, info.Pin)
		}
		if (info.Class == command.Session) != (info.Slots != 0) {
			t.Errorf("%s: class %v with slots %v", info.Name, info.Class, info.Slots)
		}
		if info.Blocking && info.Class != command.Exclusive {
			t.Errorf("%s blocks but is %v", info.Name, info.Class)
		}
		if info.Flags.Has(command.FlagWrite) && info.Effect == command.Read {
			t.Errorf("%s writes, says the server, but its effect is read", info.Name)
		}
	}
}

func known(name string) *command.Info {
	if info := lookup(name); info != nil {
		return info
	}
	for info := range command.All() { // a container by itself
		if info.Name == name {
			return info
		}
	}
	return &command.Info{}
}

func lookup(name string) *command.Info {
	first, sub, ok := strings.Cut(name, " ")
	if !ok {
		return command.Lookup([]byte(first), nil)
	}
	return command.Lookup([]byte(first), []byte(sub))
}

func inTable(t *testing.T, name string) answer {
	t.Helper()
	info := known(name)
	if info.Name == "" {
		t.Errorf("%s isn't in the table", name)
	}
	a := answer{Container: info.Container, Arity: int64(info.Arity), Flags: info.Flags.String(), Keys: info.Keys}
	if a.Flags == "none" {
		a.Flags = ""
	}
	return a
}

// answers reads COMMAND on its own, not with the generator's code.
func answers(t *testing.T, rdb *redis.Client) map[string]answer {
	t.Helper()
	reply, err := rdb.Do(t.Context(), "COMMAND").Slice()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]answer{}
	var read func(c []any)
	read = func(c []any) {
		subs := c[9].([]any)
		a := answer{Container: len(subs) > 0, Arity: c[1].(int64), Flags: words(c[2])}
		for _, k := range c[8].([]any) {
			a.Keys = append(a.Keys, keySpec(t, pairs(k)))
		}
		all[strings.ToUpper(strings.ReplaceAll(c[0].(string), "|", " "))] = a
		for _, s := range subs {
			read(s.([]any))
		}
	}
	for _, c := range reply {
		read(c.([]any))
	}
	return all
}

func words(v any) string {
	var w []string
	for _, f := range v.([]any) {
		w = append(w, f.(string))
	}
	slices.Sort(w)
	return strings.Join(w, ",")
}

func pairs(v any) map[string]any {
	m, l := map[string]any{}, v.([]any)
	for i := 0; i < len(l); i += 2 {
		m[l[i].(string)] = l[i+1]
	}
	return m
}

func keySpec(t *testing.T, k map[string]any) command.KeySpec {
	t.Helper()
	var s command.KeySpec
	for _, f := range k["flags"].([]any) {
		switch f {
		case "RO":
			s.Mode = command.RO
		case "RW":
			s.Mode = command.RW
		case "OW":
			s.Mode = command.OW
		case "RM":
			s.Mode = command.RM
		case "not_key":
			s.NotKey = true
		case "incomplete":
			s.Incomplete = true
		case "variable_flags":
			s.VariableFlags = true
		}
	}
	n := func(v any) int16 { i, _ := v.(int64); return int16(i) }
	begin, find := pairs(k["begin_search"]), pairs(k["find_keys"])
	b, f := pairs(begin["spec"]), pairs(find["spec"])
	switch begin["type"] {
	case "index":
		s.Begin, s.At = command.BeginIndex, n(b["index"])
	case "keyword":
		s.Begin, s.At, s.Keyword = command.BeginKeyword, n(b["startfrom"]), b["keyword"].(string)
	}
	switch find["type"] {
	case "range":
		s.Find, s.Last, s.Step, s.Limit = command.FindRange, n(f["lastkey"]), n(f["keystep"]), n(f["limit"])
	case "keynum":
		s.Find, s.NumAt, s.FirstKey, s.Step = command.FindKeynum, n(f["keynumidx"]), n(f["firstkey"]), n(f["keystep"])
	}
	return s
}

// What go-redis would find in the server's table is what it isn't asked for.
func TestKeysAreAdjacentWhereTheServersStepSaysSo(t *testing.T) {
	for _, kind := range testkit.Kinds {
		reply, err := server(t, kind).Do(t.Context(), "COMMAND").Slice()
		if err != nil {
			t.Fatal(err)
		}
		adjacent := 0
		for _, r := range reply {
			c := r.([]any)
			name, step := strings.ToUpper(c[0].(string)), c[5].(int64)
			is := known(name).KeysAdjacent()
			if is && step > 1 {
				t.Errorf("%s, %s: the step is %d", kind, name, step)
			}
			if is {
				adjacent++
			}
		}
		if adjacent < 100 {
			t.Errorf("%s: %d commands have adjacent keys", kind, adjacent)
		}
	}
	for name, want := range map[string]bool{
		"GET": true, "SET": true, "INCR": true, "MGET": true, "DEL": true, "ZADD": true, "XREAD": true, "EVALSHA": true,
		"MSET": false, "MSETNX": false, "MSETEX": false, "JSON.MSET": false, "JSON.GET": false, "PING": false, "OBJECT": false, "MEMORY USAGE": false, "SORT": false,
	} {
		if known(name).Name == "" || known(name).KeysAdjacent() != want {
			t.Errorf("%s: want %t", name, want)
		}
	}
}
