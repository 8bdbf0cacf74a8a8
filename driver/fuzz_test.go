package driver_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// fuzzCommands are what random requests are made of: nothing that ends the
// connection, or whose reply depends on time.
var fuzzCommands = []string{
	"PING", "GET k", "SET k v1", "SET k v2", "INCR n", "INCR k", "MGET k n none", "DEL k", "EXISTS k n", "APPEND k x", "ECHO hello",
	"LPUSH q a", "RPUSH q b", "LRANGE q 0 -1", "BLPOP q 0.01", "MULTI", "EXEC", "DISCARD", "WATCH k", "UNWATCH", "SELECT 0", "SELECT 1",
	"SELECT 99", "NOSUCH a b", "GET", "HELLO 2", "HELLO 3", "HELLO 9", "CLIENT SETNAME me", "CLIENT GETNAME", "CLIENT ID",
	"CLIENT SETINFO LIB-NAME x", "READONLY", "READWRITE", "ASKING", "WAIT 0 0", "AUTH bad", "RESET",
	"SET big " + strings.Repeat("b", 70_000), "GET big",
}

// connID is what HELLO says of the connection, which isn't always the same one.
var connID = regexp.MustCompile(`id\r\n:\d+`)

// FuzzHandleChunks: whatever is written, in whatever pieces, the replies are
// those to the same requests written one by one.
func FuzzHandleChunks(f *testing.F) {
	for _, seed := range [][]byte{
		{0, 1, 2, 3},
		{15, 4, 1, 16, 10},
		{18, 2, 15, 5, 16},
		{21, 1, 20, 1},
		{38, 39, 38, 1},
		{30, 21, 1, 37, 1},
		{15, 21, 16, 1},
		{26, 28, 29, 21, 25},
		{34, 1, 35, 15, 35, 16},
		{15, 23, 24, 16, 17},
		{18, 37, 15, 37, 1},
	} {
		f.Add(seed, []byte{1, 2, 3})
		f.Add(seed, []byte{0})
		f.Add(seed, []byte{255, 7, 30})
	}
	f.Fuzz(func(t *testing.T, picks, cuts []byte) {
		picks, cuts = picks[:min(len(picks), 40)], cuts[:min(len(cuts), 20)]
		lines := make([]string, 0, len(picks)+1)
		for _, p := range picks {
			lines = append(lines, fuzzCommands[int(p)%len(fuzzCommands)])
		}
		lines = append(lines, "DISCARD", "ECHO end")
		run := func(one bool, shared int) (got string) {
			inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, SharedConns: shared}}, func(t *lab) {
				t.answers(":1\r\n", "CLIENT ID")
				v := t.handle()
				request := frames(lines...)
				var pieces []int
				if one {
					for _, l := range lines {
						pieces = append(pieces, len(frames(l)))
					}
				} else {
					for i := 0; len(cuts) > 0 && i < 1000; i++ {
						pieces = append(pieces, max(1, int(cuts[i%len(cuts)])))
					}
				}
				got = v.exchange(request, pieces...)
				for _, n := range t.d.Nodes() {
					if leases(n.Stats) > 0 && n.Stats.Pinned == 0 {
						t.Errorf("a lease is left over: %+v", n.Stats)
					}
				}
			})
			return connID.ReplaceAllString(got, "id")
		}
		want := run(true, -1)
		for _, other := range []struct {
			one    bool
			shared int
		}{{false, -1}, {true, 0}, {false, 0}} {
			if got := run(other.one, other.shared); got != want {
				t.Errorf("%q in pieces %v, one by one %t, SharedConns %d:\n got %q\nwant %q", lines, cuts, other.one, other.shared, got, want)
			}
		}
	})
}
