package driver_test

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// The state that a connection carries meets only callers of that state, and ends
// with what has made it.

// The server runs what it has got, whether or not anybody waits for the reply.
func TestAnAbandonedChangeOfStateNeverMeetsTheNextCaller(t *testing.T) {
	for _, request := range []string{
		"SELECT 1", "AUTH ann pw", "CLIENT SETNAME me", "READONLY", "WATCH k", "MULTI", "MULTI|INCR m",
		"MULTI|SELECT 1|EXEC", "GET x|RESET", "GET x|SELECT 1",
	} {
		t.Run(request, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				t.whoami()
				t.f.SetPassword("ann", "pw")
				a := t.handle()
				a.do("SELECT 3", "+OK")
				t.f.Freeze(true)
				a.send(strings.Split(request, "|")...)
				a.expire(100 * time.Millisecond)
				a.close()
				t.f.Freeze(false)
				synctest.Wait()

				b := t.handle()
				b.do("SELECT 3", "+OK") // from memory
				b.send("GET k")
				b.wantLine("$")
				b.wantLine("default db3 RESP2  readonly=false")
				b.do("SET k v", "+OK") // ends a transaction that watches k
				b.send("MULTI", "INCR n", "EXEC")
				b.want("+OK +QUEUED *1 :1")
			})
		})
	}
}

func TestAnAbandonedHandshakeAuthenticatesNobodyElse(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.f.SetPassword("", "pw")
		knows := t.client(func(o *redis.Options) { o.Password, o.ReadTimeout = "pw", 100*time.Millisecond })
		t.f.Freeze(true)
		if err := knows.Ping(t.Context()).Err(); err == nil {
			t.Fatal("a frozen server has answered")
		}
		t.f.Freeze(false)
		synctest.Wait()
		err := t.client(func(o *redis.Options) { o.Protocol = 2 }).Set(t.Context(), "k", "v", 0).Err()
		if !redis.HasErrorPrefix(err, "NOAUTH") {
			t.Errorf("a client without the password: %v", err)
		}
	})
}

// Whoever has given up another user's rights must not get them back.
func TestASessionOfTwoUsersIsNeverRenewedWithTheCredentialsOfOne(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.f.SetPassword("admin", "pw1")
		t.f.SetPassword("bob", "pw")
		pw := "pw1"
		a := t.handle(func(o *redis.Options) { o.CredentialsProvider = func() (string, string) { return "admin", pw } })
		a.do("AUTH admin pw1", "+OK")
		a.do("SELECT 1", "+OK")
		a.do("AUTH bob pw", "+OK")
		a.do("INCR n", ":1")
		pw = "pw2"
		t.f.SetPassword("admin", pw)
		t.f.ResetAll()
		time.Sleep(time.Minute)
		t.f.ResetLog()
		_, err := io.WriteString(a, frames("INCR n"))
		t.wantErr(err, pooler.ErrSessionLost)
		if n := t.f.Count("INCR"); n != 0 {
			t.Errorf("executed %q", t.ran())
		}
	})
}

// The connection of the write is alive, but somebody else's by now.
func TestWaitIsNeverAnsweredInAnothersSession(t *testing.T) {
	for _, other := range []string{"SELECT 1", "AUTH ann pw"} {
		t.Run(other, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				t.f.SetPassword("ann", "pw")
				a, b := t.handle(), t.handle()
				a.do("SET k v", "+OK")
				b.do(other, "+OK")
				b.do("SET k v", "+OK")
				_, err := io.WriteString(a, frames("WAIT 0 0", "GET k"))
				t.wantErr(err, pooler.ErrConnGone)
				t.wantRan("1 SET k v", "1 "+other, "1 SET k v")
			})
		})
	}
}

// loseFirstWait has the server reset the connection of the first WAIT, and answer others.
func (l *lab) loseFirstWait() {
	l.f.Handle("WAIT", func(c *testkit.FakeConn, _ []string) []byte {
		if l.f.Count("WAIT") > 1 {
			return testkit.ReplyInt(1)
		}
		c.ResetNow()
		return nil
	})
}

// Another connection would answer for writes that it hasn't made.
func TestWaitIsNotSentAgainOnAnotherConnection(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.loseFirstWait()
		a := t.handle()
		a.do("SET k v", "+OK")
		a.send("WAIT 1 100")
		t.wantErr(a.failure(), pooler.ErrConnGone) // not a reply, and nothing to try again
		t.wantRan("1 SET k v", "1 WAIT 1 100")
	})
}

// It asks about a write of its own pipeline, which go-redis runs again as a whole, as with
// the stock client.
func TestAPipelineOfAWriteAndItsWAITIsTriedAgain(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.loseFirstWait()
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
		cmds, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Set(t.Context(), "k", "v", 0)
			return p.Do(t.Context(), "WAIT", 1, 100).Err()
		})
		if err != nil || cmds[1].(*redis.Cmd).Val() != int64(1) {
			t.Errorf("%v, %v", cmds, err)
		}
	})
}

// What it has written may have run.
func TestAPipelineOfAWAITAndItsWriteMustNotRunTwice(t *testing.T) {
	for _, requests := range [][]string{{"INCR n", "WAIT 1 100"}, {"WAIT 1 100", "SET k v"}} {
		inBothLabs(t, driver.Config{}, func(t *lab) {
			t.f.Handle("WAIT", func(c *testkit.FakeConn, _ []string) []byte { c.ResetNow(); return nil })
			a := t.handle()
			a.do("SET k v", "+OK")
			a.send(requests...)
			t.wantErr(a.failure(), pooler.ErrUnknownOutcome)
		})
	}
}

// The refused one has left nothing behind, but the other one has.
func TestARefusedCommandEndsNoPinOfOneThatSucceeds(t *testing.T) {
	const good, bad = "CLIENT TRACKING ON", "CLIENT TRACKING ON OPTIN"
	for name, batches := range map[string][][]string{
		"after it":                 {{good}, {bad}},
		"behind it, in a pipeline": {{good, bad}},
		"before it, in a pipeline": {{bad, good}},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				t.f.Handle("CLIENT TRACKING", func(_ *testkit.FakeConn, args []string) []byte {
					if len(args) > len(strings.Fields(good)) {
						return testkit.ReplyError("ERR refused")
					}
					return testkit.ReplySimple("OK")
				})
				a := t.handle()
				for _, batch := range batches {
					a.send(batch...)
					for range batch {
						a.wantLine("")
					}
				}
				if s := t.stats(); s.Pinned != 1 || s.Idle != 0 {
					t.Errorf("pinned %d, idle %d", s.Pinned, s.Idle)
				}
				a.close()
				t.handle().do("PING", "+PONG")
				if ran := t.ran(); ran[len(ran)-1] != "2 PING" {
					t.Errorf("executed %q", ran)
				}
			})
		})
	}
}

// described makes the server describe FOO, and refuse to the first few times.
func (l *lab) described(refusals int) {
	l.answers("+DONE\r\n", "FOO")
	l.f.Handle("COMMAND INFO", func(*testkit.FakeConn, []string) []byte {
		if l.f.Count("COMMAND INFO") <= refusals {
			return testkit.ReplyError("BUSY Redis is busy running a script.")
		}
		return []byte("*1\r\n*7\r\n$3\r\nfoo\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n*0\r\n")
	})
}

func TestAPassingErrorIsNotTheServersVerdictOnACommand(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.described(1)
		for range 3 {
			t.handle().do("FOO x", "+DONE")
		}
		if n, s := t.f.Count("COMMAND INFO"), t.stats(); n != 2 || s.Pinned != 1 {
			t.Errorf("asked %d times, pinned %d; want only the first", n, s.Pinned)
		}
	})
}

func TestTheServerIsAskedAboutAnUnknownCommandBehindOthersToo(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.described(0)
		a := t.handle()
		a.send("GET a", "FOO x")
		a.want("$-1 +DONE")
		if s := t.stats(); s.Pinned != 0 || leases(s) != 0 {
			t.Errorf("pinned %d, leased %d", s.Pinned, leases(s))
		}
	})
}

// Every handle of go-redis's pool may have asked for its connection's number.
func TestConnectionsKeptForTheirNumberStarveNobody(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 4}}, func(t *lab) {
		t.f.Handle("CLIENT ID", func(*testkit.FakeConn, []string) []byte {
			time.Sleep(time.Millisecond)
			return testkit.ReplyInt(1)
		})
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 4 })
		done := make(chan error)
		for range 4 {
			go func() { done <- rdb.ClientID(t.Context()).Err() }()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if s := t.stats(); s.Pinned != 4 {
			t.Fatalf("pinned %d", s.Pinned)
		}
		start := time.Now()
		for _, c := range []*redis.Client{t.client(func(o *redis.Options) { o.DB = 1 }), rdb} {
			for range 8 { // the second client's handles have lost theirs, or not
				if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
					t.Error(err)
				}
			}
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// It would be half sent by the time that it is known whole, so the handle
// couldn't answer it any more; forwarded, it would spoil the connection.
func TestAQuitOrResetTooLargeToGatherIsRefusedBeforeAByteIsSent(t *testing.T) {
	for _, name := range []string{"QUIT", "RESET"} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				a := t.handle()
				if _, err := io.WriteString(a, frames(name + " " + strings.Repeat("x", 70_000))[:69_000]); err == nil {
					t.Error("taken")
				}
				if s := t.stats(); s.Admitted != 0 {
					t.Errorf("%d requests", s.Admitted)
				}
				a.close()
				t.handle().do("GET k", "$-1")
				t.wantRan("1 GET k")
			})
		})
	}
}

// A client that asks about its writes has them on connections of their own: on shared ones
// each of its callers would wait for as long as the server holds back what the others ask.
func TestCallersWhoAskAboutTheirWritesDoNotWaitForEachOther(t *testing.T) {
	const callers = 4
	inBothLabs(t, driver.Config{}, func(t *lab) {
		var held atomic.Int32 // of so many the answers are held back, until all have asked
		all := make(chan struct{})
		t.f.Handle("WAIT", func(_ *testkit.FakeConn, args []string) []byte {
			if args[1] == "1" {
				return testkit.ReplyInt(1)
			}
			if held.Add(1) == callers {
				close(all)
			}
			<-all
			return testkit.ReplyInt(2)
		})
		var handles []*virtual
		for range callers {
			handles = append(handles, t.handle())
		}
		for range callers { // the first ones find that out
			for _, h := range handles {
				h.do("SET k v", "+OK")
				h.do("WAIT 1 0", ":1")
				synctest.Wait()
			}
		}
		for _, h := range handles {
			h.do("SET k v", "+OK")
		}
		for _, h := range handles {
			h.send("WAIT 2 0")
		}
		for _, h := range handles {
			h.want(":2")
		}
	})
}
