package driver_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func TestAskingGoesWithTheNextCommandAlsoWhenWrittenApart(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a, b := t.handle(), t.handle()
		a.send("ASKING", "GET k")
		a.want("+OK $-1")
		b.do("PING", "+PONG")
		a.do("ASKING", "+OK")
		b.do("PING", "+PONG") // on another connection: that one has the flag
		a.do("GET k", "$-1")
		b.do("PING", "+PONG")
		if s := t.stats(); leases(s) != 0 {
			t.Errorf("%d connections are still leased", leases(s))
		}
		if t.leased {
			t.wantRan("1 ASKING", "1 GET k", "1 PING", "1 ASKING", "2 PING", "1 GET k", "1 PING")
		} else { // ASKING leases, what others send meanwhile is shared
			t.wantRan("1 ASKING", "1 GET k", "1 PING", "2 ASKING", "1 PING", "2 GET k", "1 PING")
		}
	})
}

func TestAConnectionWithTheAskingFlagIsNotUsedAgain(t *testing.T) {
	for _, then := range []string{"", "*2\r\n$3\r\nGE"} {
		inBothLabs(t, one(), func(t *lab) {
			a := t.handle()
			a.do("ASKING", "+OK")
			a.write(then)
			a.close()
			t.handle().do("PING", "+PONG")
			t.wantRan("1 ASKING", "2 PING")
		})
	}
}

func TestQuitIsAnsweredAndNeverForwarded(t *testing.T) {
	for _, state := range []string{"GET k", "SELECT 3", "CLIENT ID", "WATCH k", "MULTI"} {
		t.Run("after "+state, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				a := t.handle()
				a.send(state)
				a.wantLine("")
				if state == "GET k" {
					a.send("QUIT", "QUIT")
					a.want("+OK +OK")
				} else {
					a.do("QUIT", "+OK")
				}
				a.send("INCR n")
				t.wantErr(a.failure(), io.EOF)
				a.close()
				t.handle().do("PING", "+PONG")
				if n := t.f.Count("QUIT") + t.f.Count("INCR"); n != 0 {
					t.Errorf("forwarded: %q", t.ran())
				}
			})
		})
	}
}

// Then its reply has to come between others, from the server, which hangs up.
func TestAConnectionThatHasSeenAQuitOrResetIsNotUsedAgain(t *testing.T) {
	for request, replies := range map[string]string{"QUIT": "$-1 +OK", "RESET|INCR n": "$-1 +RESET :1"} {
		t.Run(request, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				t.f.Handle("QUIT", func(*testkit.FakeConn, []string) []byte { return testkit.ReplySimple("OK") })
				a := t.handle()
				a.do("SELECT 3", "+OK")
				a.do("SET n 7", "+OK")
				a.send(append([]string{"GET k"}, strings.Split(request, "|")...)...)
				a.want(replies)
				a.close()
				b := t.handle()
				b.do("SELECT 3", "+OK")
				b.do("GET n", "$1 7")
				if ran := t.ran(); ran[len(ran)-1] != "2 GET n" {
					t.Errorf("executed %q", ran)
				}
			})
		})
	}
}

// With the stock pool the connection is gone with its state.
func TestNothingRunsInTheStateThatQuitHasEnded(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 1 })
		for _, command := range [][]any{{"SELECT", 3}, {"QUIT"}, {"SET", "k", "v"}} {
			if err := rdb.Do(t.Context(), command...).Err(); err != nil {
				t.Errorf("%v: %v", command, err)
			}
		}
		t.handle().do("GET k", "$1 v")
	})
}

func TestResetEndsTheSessionState(t *testing.T) {
	for _, state := range []string{"SELECT 3", "CLIENT ID", "WATCH k"} {
		t.Run(state, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				a := t.handle()
				a.do("SELECT 3", "+OK")
				a.do("SET k three", "+OK")
				a.send(state)
				a.wantLine("")
				a.do("RESET", "+RESET")
				a.do("SET k zero", "+OK")
				if s := t.stats(); s.Pinned != 0 || leases(s) != 0 {
					t.Errorf("pinned %d, leased %d", s.Pinned, leases(s))
				}
				rdb := t.client(func(o *redis.Options) { o.DB = 3 })
				if v, err := rdb.Get(t.Context(), "k").Result(); v != "three" || err != nil {
					t.Errorf("database 3 has %q, %v", v, err)
				}
			})
		})
	}
}

func TestWaitRunsOnTheConnectionOfTheHandlesLastWrite(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a, b := t.handle(), t.handle()
		a.send("GET x") // occupies the first connection
		b.do("SET k v", "+OK")
		a.want("$-1")
		for range 3 {
			b.do("GET k", "$1 v") // on whichever was used last
		}
		a.do("GET x", "$-1")
		b.do("WAIT 0 0", ":0")
		b.send("GET k", "WAIT 0 0")
		b.want("$1 v :0")
		b.send("SET k v2", "WAIT 0 0")
		b.want("+OK :0")
		var last int64
		for _, e := range t.f.Log() {
			switch e.Args[0] {
			case "SET":
				last = e.ConnID
			case "WAIT":
				if e.ConnID != last {
					t.Errorf("WAIT on connection %d, the write on %d: %q", e.ConnID, last, t.ran())
				}
			}
		}
	})
}

func TestWaitFailsIfTheConnectionOfTheLastWriteIsGone(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{HealthCheckInterval: time.Second}}, func(t *lab) {
		for _, request := range [][]string{{"WAIT 0 0"}, {"GET x", "WAIT 0 0"}} {
			a := t.handle()
			a.do("SET k v", "+OK")
			t.f.ResetAll()
			time.Sleep(5 * time.Second)
			t.handle().do("GET x", "$-1")
			n := t.f.Count("WAIT")
			_, err := io.WriteString(a, frames(request...))
			t.wantErr(err, pooler.ErrConnGone)
			if t.f.Count("WAIT") != n {
				t.Error("asked another connection")
			}
			if _, ok := errors.AsType[*net.OpError](err); ok {
				t.Errorf("go-redis would try again after %v", err)
			}
		}
	})
}

// After another SELECT the connection of the last write is of another session.
func TestWaitNeverTakesARequestToAnotherDatabase(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.handle().do("SELECT 1", "+OK")
		synctest.Wait()
		a := t.handle()
		a.do("SET k zero", "+OK")
		a.do("SELECT 1", "+OK") // from memory
		if _, err := io.WriteString(a, frames("WAIT 0 0", "GET k")); err == nil {
			a.want(":0 $-1")
		} else {
			t.wantErr(err, pooler.ErrConnGone)
		}
	})
}
