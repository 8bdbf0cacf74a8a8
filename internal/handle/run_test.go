package handle

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
)

// planOf is the plan for the requests, without their places.
func planOf(t *testing.T, requests ...[]byte) []run { return planFrom(t, true, requests...) }

// planFrom is that; remember says whether what was found of a command is there for
// the next ones.
func planFrom(t *testing.T, remember bool, requests ...[]byte) []run {
	t.Helper()
	var b batch
	b.init()
	for _, r := range requests {
		b.take(r)
	}
	var known lookalikes
	for {
		if !remember {
			known = lookalikes{}
		}
		n, err := b.next(&known)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		b.add(&known[0].facts, n)
	}
	for i := range b.plan {
		r := &b.plan[i]
		r.start, r.end, r.first = 0, 0, 0
	}
	return b.plan
}

// A pipeline's commands are judged as each would be alone: what was found of one
// is taken for the next only where it can't differ.
func TestAPipelineIsJudgedCommandByCommand(t *testing.T) {
	alike := [][]string{
		{"set", "k", "v"},
		{"set", "k", "v", "get"},
		{"set", "k", "v", "keepttl"},
		{"setex", "k", "1", "v"},
		{"SET", "k", "v"},
		{"set", "k", "v", "ex", "1"},
		{"get", "k"},
		{"get", "k", "k"},
		{"getex", "k"},
		{"getex", "k", "persist"},
		{"client", "id"},
		{"client", "getname"},
		{"zadd", "k", "1", "m"},
		{"zadd", "k", "nx", "m"},
		{"incr", "k"},
		{"incrby", "k", "1"},
		{"xread", "streams", "a", "0"},
		{"xread", "block", "0", "streams", "a", "0"},
		{"sort", "k"},
		{"sort", "k", "store", "d"},
		{"multi"},
		{"exec"},
		{"asking"},
		{"wait", "0", "0"},
		{"config", "get", "x"},
		{"config", "set", "x"},
		{"ft.search", "i", "q"},
		{"ping"},
		{"select", "1"},
		{"watch", "k"},
	}
	same := cmp.Options{cmp.AllowUnexported(run{}), cmp.Comparer(func(x, y *command.Info) bool { return x == y })}
	for _, a := range alike {
		for _, b := range alike {
			first, second := resp.AppendCommand(nil, a...), resp.AppendCommand(nil, b...)
			alone, together := append(planOf(t, first), planOf(t, second)...), planOf(t, first, second)
			if len(together) == 1 { // two plain ones
				x, y := alone[0], alone[1]
				x.n, x.effect, x.blocking, x.share, x.slow = 2, max(x.effect, y.effect), x.blocking || y.blocking, x.share && y.share, x.slow || y.slow
				if x.kind != plain || y.kind != plain || x.afterWrite || y.afterWrite {
					t.Fatalf("%q and %q are one run", a, b)
				}
				alone = []run{x}
			}
			if diff := cmp.Diff(alone, together, same); diff != "" {
				t.Errorf("%q and %q: alone (-), together (+):\n%s", a, b, diff)
			}
			inTurn := [][]byte{first, second, first, first, second, second}
			if diff := cmp.Diff(planFrom(t, false, inTurn...), planOf(t, inTurn...), same); diff != "" {
				t.Errorf("%q and %q in turn: judged each (-), together (+):\n%s", a, b, diff)
			}
		}
	}
}

// What go-redis asks by itself waits for no member that is away; what may be for this
// member alone does.
func TestWhichRequestsAreForAnyMember(t *testing.T) {
	for words, want := range map[[2]string]bool{
		{"CLUSTER", "SLOTS"}: true, {"CLUSTER", "SHARDS"}: true, {"COMMAND", ""}: true,
		{"PING", ""}: false, {"DBSIZE", ""}: false, {"SCRIPT", "LOAD"}: false, {"SCAN", "0"}: false, {"PUBLISH", "c"}: false,
	} {
		var sub []byte
		if words[1] != "" {
			sub = []byte(words[1])
		}
		info := command.Lookup([]byte(words[0]), sub)
		if info == nil {
			t.Fatalf("%v isn't in the table", words)
		}
		if got := (&run{info: info}).ofMembers(); got != want {
			t.Errorf("%v: %v, want %v", words, got, want)
		}
	}
	if !(&run{kind: session_}).ofMembers() {
		t.Error("a handshake is this member's alone")
	}
}

// What is sent to a replica in the place of the primary is what a replica runs: it would
// send anything else back.
func TestWhatOnlyReadsAKeyRunsOnAReplica(t *testing.T) {
	for info := range command.All() {
		r := run{kind: kindOf(&command.Facts{Info: info, Class: info.Class, Pin: info.Pin})}
		if r.kind == plain && info.Effect == command.Read && len(info.Keys) > 0 && !info.Flags.Has(command.FlagReadOnly) {
			t.Errorf("%s only reads, and isn't flagged so", info.Name)
		}
	}
}
