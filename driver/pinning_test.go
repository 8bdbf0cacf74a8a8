package driver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// answers makes the server answer commands that the fake doesn't know.
func (l *lab) answers(reply string, commands ...string) {
	for _, name := range commands {
		l.f.Handle(name, func(*testkit.FakeConn, []string) []byte { return []byte(reply) })
	}
}

func TestThePinningTableForWhatLeavesNothingBehind(t *testing.T) {
	for _, request := range []string{
		"HELLO 3", "AUTH secret", "AUTH bob secret", "SELECT 3", "READONLY", "READWRITE",
		"CLIENT SETNAME me", "CLIENT SETINFO LIB-NAME me", "CLIENT NO-EVICT ON", "CLIENT NO-TOUCH ON",
		"MULTI|INCR n|EXEC", "MULTI|EXEC", "MULTI|GET|EXEC", "MULTI|GET k|DISCARD",
		"BLPOP q 0", "BRPOP q 0", "BRPOPLPUSH q r 0", "BLMOVE q r LEFT LEFT 0", "BLMPOP 0 1 q LEFT",
		"BZPOPMIN q 0", "BZPOPMAX q 0", "BZMPOP 0 1 q MIN",
		"XREAD BLOCK 0 STREAMS s 0", "XREADGROUP GROUP g c block 0 STREAMS s 0", "TS.READ BLOCK 0 STREAMS s 0",
		"WAIT 0 0", "WAITAOF 0 0 0", "CLIENT GETNAME", "CLIENT GETREDIR", "CLIENT TRACKINGINFO", "CLIENT TRACKING OFF", "CLIENT REPLY ON", "CLIENT KILL 1.2.3.4:5", "CLIENT PAUSE 0", "CLIENT UNPAUSE",
		"CLIENT UNBLOCK 7", "MIGRATE h 1 k 0 1", "SAVE", "DEBUG SLEEP 0", "SHUTDOWN", "FAILOVER",
		"SCRIPT KILL", "FUNCTION KILL", "KEYS *", "SMEMBERS s", "HGETALL h", "LRANGE l 0 -1", "SORT l",
		"CLIENT MAINT_NOTIFICATIONS ON", // it is refused
	} {
		t.Run(request, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				t.answers("+DONE\r\n", "AUTH", "BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP",
					"XREAD", "XREADGROUP", "TS.READ", "WAITAOF", "CLIENT GETREDIR", "CLIENT TRACKINGINFO", "CLIENT TRACKING", "CLIENT REPLY", "CLIENT KILL", "CLIENT PAUSE", "CLIENT UNPAUSE", "CLIENT UNBLOCK",
					"MIGRATE", "SAVE", "DEBUG", "SHUTDOWN", "FAILOVER", "SCRIPT", "FUNCTION", "KEYS", "SMEMBERS", "HGETALL", "SORT")
				a := t.handle()
				commands := strings.Split(request, "|")
				a.send(append(commands, "ECHO end")...)
				for line := ""; !strings.HasPrefix(line, "end"); {
					var err error
					if line, err = a.r.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
				}
				if s := t.stats(); s.Pinned != 0 || leases(s) != 0 || len(s.Pins) > 0 && request != "CLIENT MAINT_NOTIFICATIONS ON" {
					t.Errorf("pinned %d for %v, leased %d", s.Pinned, s.Pins, leases(s))
				}
				a.do("ECHO again", "$5 again")
				if s := t.stats(); s.OpenConnections != 1 || s.Dials != 1 {
					t.Errorf("open %d, dials %d, closes %v", s.OpenConnections, s.Dials, s.Closes)
				}
			})
		})
	}
}

func TestThePinningTableForWhatKeepsItsConnectionForLife(t *testing.T) {
	for request, pin := range map[string]string{
		"SUBSCRIBE a b": "pubsub", "PSUBSCRIBE a*": "pubsub", "SSUBSCRIBE a": "pubsub", "UNSUBSCRIBE": "pubsub",
		"SUNSUBSCRIBE a": "pubsub", "MONITOR": "monitor", "SYNC": "sync", "PSYNC ? -1": "sync", "REPLCONF ACK 0": "sync",
		"SCRIPT DEBUG YES": "script-debug", "CLIENT REPLY OFF": "reply", "CLIENT TRACKING ON": "tracking",
		"CLIENT CACHING YES":            "tracking",
		"CLIENT MAINT_NOTIFICATIONS ON": "maint", "CLIENT ID": "client-id", "CLIENT INFO": "client-id",
		"HIMPORT PREPARE": "himport", "NOSUCH a": "unknown", "CLIENT SETINFO LIB-ELSE x": "session",
		"MULTI|SELECT 1|EXEC": "session", "MULTI|AUTH secret|EXEC": "session", "MULTI|READONLY|EXEC": "session",
		"MULTI|SUBSCRIBE a|EXEC": "pubsub",
	} {
		t.Run(request, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				t.answers("+DONE\r\n", "SSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR", "SYNC", "PSYNC", "REPLCONF", "SCRIPT", "CLIENT", "HIMPORT",
					"NOSUCH", "AUTH")
				a, b := t.handle(), t.handle()
				commands := strings.Split(request, "|")
				a.send(commands...)
				for range commands {
					a.wantLine("")
				}
				b.do("ECHO x", "$1 x")
				if s := t.stats(); s.Pinned != 1 || s.Pins[pin] != 1 || leases(s) != 1 {
					t.Errorf("pinned %d for %v, leased %d", s.Pinned, s.Pins, leases(s))
				}
				a.close()
				if s := t.stats(); s.Pinned != 0 || s.Closes[pooler.CloseState] != 1 || s.OpenConnections != 1 {
					t.Errorf("afterwards pinned %d, closes %v, open %d", s.Pinned, s.Closes, s.OpenConnections)
				}
				for _, line := range t.ran() {
					if id, cmd, _ := strings.Cut(line, " "); (id == "1") == strings.HasPrefix(cmd, "ECHO") {
						t.Errorf("executed %q", line)
					}
				}
			})
		})
	}
}

func TestTransactionsAndWatchesKeepTheirConnectionUntilTheyEnd(t *testing.T) {
	type step struct {
		command, reply string
		kept           bool
	}
	for name, steps := range map[string][]step{
		"multi, exec":      {{"MULTI", "+OK", true}, {"INCR n", "+QUEUED", true}, {"EXEC", "*1 :1", false}},
		"multi, discard":   {{"MULTI", "+OK", true}, {"INCR n", "+QUEUED", true}, {"DISCARD", "+OK", false}},
		"refused discard":  {{"MULTI", "+OK", true}, {"DISCARD x", "-ERR", true}, {"DISCARD", "+OK", false}},
		"multi twice":      {{"MULTI", "+OK", true}, {"MULTI", "-ERR", true}, {"DISCARD", "+OK", false}},
		"a bad command":    {{"MULTI", "+OK", true}, {"GET", "-ERR", true}, {"EXEC", "-EXECABORT", false}},
		"watch, unwatch":   {{"WATCH k", "+OK", true}, {"GET k", "$-1", true}, {"UNWATCH", "+OK", false}},
		"watch twice":      {{"WATCH k", "+OK", true}, {"WATCH l", "+OK", true}, {"UNWATCH", "+OK", false}},
		"watch, exec":      {{"WATCH k", "+OK", true}, {"MULTI", "+OK", true}, {"EXEC", "*0", false}},
		"watch, discard":   {{"WATCH k", "+OK", true}, {"MULTI", "+OK", true}, {"DISCARD", "+OK", false}},
		"stray exec":       {{"WATCH k", "+OK", true}, {"EXEC", "-ERR", true}, {"UNWATCH", "+OK", false}},
		"stray discard":    {{"WATCH k", "+OK", true}, {"DISCARD", "-ERR", true}, {"UNWATCH", "+OK", false}},
		"unwatch in multi": {{"WATCH k", "+OK", true}, {"MULTI", "+OK", true}, {"UNWATCH", "+QUEUED", true}, {"EXEC", "*1 +OK", false}},
		"unknown in watch": {{"WATCH k", "+OK", true}, {"NOSUCH", "-ERR", true}, {"GET k", "$-1", true}, {"UNWATCH", "+OK", false}},
		"refused watch":    {{"WATCH", "-ERR", false}},
		"refused multi":    {{"MULTI x", "-ERR", false}},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				a, b := t.handle(), t.handle()
				for _, st := range steps {
					a.send(st.command)
					if strings.HasPrefix(st.reply, "-") {
						a.wantLine(st.reply)
					} else {
						a.want(st.reply)
					}
					b.do("ECHO x", "$1 x")
					if s := t.stats(); s.Pinned == 1 != st.kept || leases(s) == 1 != st.kept {
						t.Errorf("after %s: pinned %d, leased %d", st.command, s.Pinned, leases(s))
					}
				}
				var ids []int64
				for _, e := range t.f.Log() {
					if e.Args[0] != "ECHO" && e.Args[0] != "COMMAND" {
						ids = append(ids, e.ConnID)
					}
				}
				if slices.Sort(ids); ids[0] != ids[len(ids)-1] {
					t.Errorf("on several connections: %q", t.ran())
				}
				if s := t.stats(); s.Closes[pooler.CloseState] != 0 {
					t.Errorf("closes %v", s.Closes)
				}
			})
		})
	}
}

func TestAConnectionReturnedInATransactionOrWatchingIsClosed(t *testing.T) {
	for _, requests := range [][]string{{"MULTI"}, {"MULTI", "INCR n"}, {"WATCH n"}, {"MULTI", "DISCARD x"}, {"SUBSCRIBE c"}} {
		t.Run(fmt.Sprint(requests), func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				a, b := t.handle(), t.handle()
				for _, r := range requests {
					a.send(r)
					a.wantLine("")
				}
				a.close()
				b.do("INCR m", ":1")
				if ran := t.ran(); ran[len(ran)-1] != "2 INCR m" {
					t.Errorf("executed %q", ran)
				}
			})
		})
	}
}

func TestTheServerIsAskedAboutAnUnknownCommandOnceForEachNode(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		answer := func(flags string) []byte {
			return []byte("*1\r\n*10\r\n$3\r\nfoo\r\n:-1\r\n*2\r\n" + flags + ":0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*0\r\n")
		}
		t.f.Handle("COMMAND INFO", func(_ *testkit.FakeConn, args []string) []byte {
			return answer(map[string]string{"foo": "+readonly\r\n+fast\r\n", "bar": "+write\r\n+blocking\r\n"}[args[2]])
		})
		t.answers("+DONE\r\n", "FOO", "BAR")
		for range 5 {
			t.handle().do("FOO x", "+DONE")
			t.handle().do("foo x", "+DONE")
		}
		if n, s := t.f.Count("COMMAND INFO foo"), t.stats(); n != 1 || leases(s) != 0 || s.Dials != 1 {
			t.Errorf("asked %d times, leased %d, dials %d", n, leases(s), s.Dials)
		}
		for range 3 {
			a := t.handle()
			a.do("BAR x", "+DONE")
			if s := t.stats(); s.Pinned != 1 {
				t.Errorf("a blocking command: pinned %d", s.Pinned)
			}
			a.close()
		}
		if n := t.f.Count("COMMAND INFO bar"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// What such a command leaves on its connection is nothing for anybody else: it runs on
// one of its handle's own, which ends with the handle.
func TestUnknownCommandsThatMayChangeTheirConnectionShareNone(t *testing.T) {
	for name, tc := range map[string]struct {
		flags, categories string
		own               bool
	}{
		"not for scripts":             {"+write\r\n+noscript\r\n", "+@write\r\n+@slow\r\n", true},
		"a reader not for scripts":    {"+readonly\r\n+noscript\r\n", "+@read\r\n+@slow\r\n", true},
		"of connections":              {"+loading\r\n+fast\r\n", "+@fast\r\n+@connection\r\n", true},
		"neither":                     {"+write\r\n+fast\r\n", "+@write\r\n+@fast\r\n", false},
		"categories of a like name":   {"+write\r\n+fast\r\n", "+@connections\r\n+@fast\r\n", false},
		"flags of a like name":        {"+write\r\n+noscripts\r\n", "+@write\r\n+@fast\r\n", false},
		"a subcommand of connections": {"+write\r\n+fast\r\n", "+@write\r\n*1\r\n+@connection\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				t.f.Handle("COMMAND INFO", func(*testkit.FakeConn, []string) []byte {
					count := func(s string) int { return strings.Count(s, "\r\n+") + 1 }
					return fmt.Appendf(nil, "*1\r\n*10\r\n$3\r\nfoo\r\n:-1\r\n*%d\r\n%s:0\r\n:0\r\n:0\r\n*%d\r\n%s*0\r\n*0\r\n*0\r\n",
						count(tc.flags), tc.flags, count(tc.categories), tc.categories)
				})
				t.answers("+DONE\r\n", "FOO")
				a, b := t.handle(), t.handle()
				for range 3 {
					a.do("FOO x", "+DONE")
					b.do("ECHO x", "$1 x")
				}
				if s := t.stats(); s.Pinned == 1 != tc.own || leases(s) == 1 != tc.own {
					t.Errorf("pinned %d, leased %d", s.Pinned, leases(s))
				}
				on := map[string]map[int64]bool{"FOO": {}, "ECHO": {}}
				for _, e := range t.f.Log() {
					if ids := on[e.Args[0]]; ids != nil {
						ids[e.ConnID] = true
					}
				}
				for id := range on["FOO"] {
					if on["ECHO"][id] == tc.own {
						t.Errorf("on connections: %v", on)
					}
				}
				a.close()
				if n := t.stats().Closes[pooler.CloseState]; n == 1 != tc.own {
					t.Errorf("%d connections closed with their handle", n)
				}
				if n := t.f.Count("COMMAND INFO"); n != 1 {
					t.Errorf("asked %d times", n)
				}
			})
		})
	}
}

func TestLargeRequestsAndLongPipelinesGiveTheirConnectionBack(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		a := t.handle()
		value := strings.Repeat("v", 300_000)
		a.send("SET k " + value)
		a.want("+OK")
		a.send(slices.Repeat([]string{"INCR n"}, 5_000)...)
		for i := range 5_000 {
			a.want(fmt.Sprint(":", i+1))
		}
		if s := t.stats(); leases(s) != 0 || s.Pinned != 0 || s.Dials != 1 {
			t.Errorf("leased %d, pinned %d, dials %d", leases(s), s.Pinned, s.Dials)
		}
	})
}
