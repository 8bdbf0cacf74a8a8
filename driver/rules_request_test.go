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

// malformed is what a server would answer by closing the connection, or not at
// all.
var malformed = map[string]string{
	"no arguments":             "*0\r\n",
	"a negative count":         "*-1\r\n",
	"an empty line":            "\r\n",
	"a lone LF":                "\n",
	"an inline command":        "PING\r\n",
	"a bulk string":            "$4\r\nPING\r\n",
	"a null argument":          "*1\r\n$-1\r\n",
	"an integer as argument":   "*1\r\n:1\r\n",
	"a count with a zero":      "*01\r\n$4\r\nPING\r\n",
	"a length with a zero":     "*1\r\n$04\r\nPING\r\n",
	"a length that is none":    "*1\r\n$4x\r\nPING\r\n",
	"a body without an end":    "*1\r\n$4\r\nPINGPING\r\n",
	"an argument of 512 MiB+1": "*2\r\n$3\r\nGET\r\n$536870913\r\n",
	"2^24+1 arguments":         "*16777217\r\n",
	"a count beyond an int64":  "*99999999999999999999\r\n",
	"a length beyond an int64": "*1\r\n$99999999999999999999\r\n",
}

func TestMalformedAndOverlongRequestsAreRefusedBeforeTheServerSeesThem(t *testing.T) {
	for name, raw := range malformed {
		t.Run(name, func(t *testing.T) {
			inLab(t, one(), func(t *lab) {
				t.handle().do("GET before", "$-1") // an idle connection to spoil
				for _, prefix := range []string{"", frames("INCR n"), "split"} {
					a := t.handle()
					if prefix == "split" {
						for i := range raw {
							if _, err := io.WriteString(a, raw[i:i+1]); err != nil {
								goto refused
							}
						}
						t.Fatal("taken")
					} else if n, err := io.WriteString(a, prefix+raw); err == nil || n != 0 {
						t.Fatalf("taken: %d, %v", n, err)
					}
				refused:
					if _, err := io.WriteString(a, frames("PING")); err == nil {
						t.Error("the handle takes another request")
					}
					if _, err := a.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
						t.Errorf("read: %v", err)
					}
					a.close()
				}
				t.handle().do("GET after", "$-1")
				t.wantRan("1 GET before", "1 GET after")
				if !t.f.Conns()[0].Alive() {
					t.Error("the connection didn't survive it")
				}
			})
		})
	}
}

func TestAMalformedRequestBehindOneInProgressCostsOnlyItsOwnConnection(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		t.slow(time.Second)
		a, b := t.handle(), t.handle()
		a.send("GET slow")
		synctest.Wait()
		b.send("GET slowb")
		synctest.Wait()
		if _, err := io.WriteString(a, "*0\r\n"); err == nil {
			t.Error("taken")
		}
		a.close()
		b.want("$5 slowb")
		t.handle().do("GET c", "$1 c")
		t.wantRan("1 GET slow", "2 GET slowb", "2 GET c")
	})
}

func TestAPartlySentCommandNeverMeetsTheNextCaller(t *testing.T) {
	for _, where := range []string{"between the pieces", "behind a whole command"} {
		t.Run(where, func(t *testing.T) {
			inLab(t, one(), func(t *lab) {
				a, b := t.handle(), t.handle()
				if where != "between the pieces" {
					a.send("GET x")
				}
				a.write("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\n" + strings.Repeat("v", 100_000))
				a.close()
				b.do("GET k", "$-1")
				for _, e := range t.ran() {
					if strings.Contains(e, "SET") {
						t.Errorf("executed %.20q", e)
					}
				}
				s := t.stats()
				if s.Dials != 2 || s.Abandoned != 1 || s.Closes[pooler.CloseWrite] != 1 {
					t.Errorf("dials %d, abandoned %d, closes %v", s.Dials, s.Abandoned, s.Closes)
				}
			})
		})
	}
}

func TestAnUnfinishedCommandIsNotSent(t *testing.T) {
	inLab(t, one(), func(t *lab) {
		whole := frames("SET k v")
		for at := 1; at < len(whole); at++ {
			a := t.handle()
			a.write(whole[:at])
			a.close()
		}
		if n := t.f.Dials(); n != 0 {
			t.Errorf("%d dials for nothing", n)
		}
		t.handle().do("GET k", "$-1")
		t.wantRan("1 GET k")
	})
}

// A command that is sent in part holds its connection; nobody else's goes in
// between.
func TestACommandThatIsSentInPartHoldsItsConnection(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		value := strings.Repeat("v", 200_000)
		whole := "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\n" + value + "\r\n"
		a, b := t.handle(), t.handle()
		for i := 0; i < len(whole); i += 70_000 {
			a.write(whole[i:min(len(whole), i+70_000)])
			b.do("PING", "+PONG")
		}
		a.want("+OK")
		for _, e := range t.f.Log() {
			if e.Args[0] == "SET" && (e.ConnID != 1 || e.Args[2] != value) || e.Args[0] == "PING" && e.ConnID != 2 {
				t.Errorf("%d %s", e.ConnID, e.Args[0])
			}
		}
	})
}

func TestCommandsThatChangeTheNumberOfRepliesKeepAConnectionThatIsClosedAfterwards(t *testing.T) {
	for command, pin := range map[string]string{
		"CLIENT REPLY OFF": "reply", "CLIENT REPLY SKIP": "reply", "MONITOR": "monitor", "SYNC": "sync", "PSYNC ? -1": "sync",
	} {
		t.Run(command, func(t *testing.T) {
			inLab(t, one(), func(t *lab) {
				answer := func(*testkit.FakeConn, []string) []byte { return testkit.ReplySimple("FIRST") }
				for _, name := range []string{"CLIENT REPLY", "MONITOR", "SYNC", "PSYNC"} {
					t.f.Handle(name, answer)
				}
				a, b := t.handle(), t.handle()
				a.do(command, "+FIRST")
				t.f.Conns()[0].Push([]byte("+second\r\n+third\r\n"))
				a.want("+second +third")
				if s := t.stats(); s.Pins[pin] != 1 || s.Pinned != 1 || s.Streams != 1 {
					t.Errorf("pins %v, pinned %d, streams %d", s.Pins, s.Pinned, s.Streams)
				}
				b.do("PING", "+PONG") // beside it, though MaxOpenConns is 1
				a.close()
				if s := t.stats(); s.Closes[pooler.CloseState] != 1 || s.OpenConnections != 1 || s.Streams != 0 {
					t.Errorf("closes %v, open %d, streams %d", s.Closes, s.OpenConnections, s.Streams)
				}
				b.do("ECHO x", "$1 x")
				t.wantRan("1 "+command, "2 PING", "2 ECHO x")
			})
		})
	}
}

func TestAskingGoesWithTheNextCommandAlsoWhenWrittenApart(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		a, b := t.handle(), t.handle()
		a.send("ASKING", "GET k")
		a.want("+OK $-1")
		b.do("PING", "+PONG")
		a.do("ASKING", "+OK")
		b.do("PING", "+PONG") // on another connection: that one has the flag
		a.do("GET k", "$-1")
		b.do("PING", "+PONG")
		if s := t.stats(); s.InUse != 0 {
			t.Errorf("%d connections are still in use", s.InUse)
		}
		t.wantRan("1 ASKING", "1 GET k", "1 PING", "1 ASKING", "2 PING", "1 GET k", "1 PING")
	})
}

func TestAConnectionWithTheAskingFlagIsNotUsedAgain(t *testing.T) {
	for _, then := range []string{"", "*2\r\n$3\r\nGE"} {
		inLab(t, one(), func(t *lab) {
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
			inLab(t, one(), func(t *lab) {
				a := t.handle()
				a.send(state)
				a.wantLine("")
				if state == "GET k" {
					a.send("QUIT", "QUIT")
					a.want("+OK +OK")
				}
				a.do("QUIT", "+OK")
				a.close()
				t.handle().do("PING", "+PONG")
				if n := t.f.Count("QUIT"); n != 0 {
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
			inLab(t, one(), func(t *lab) {
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

func TestResetEndsTheSessionState(t *testing.T) {
	for _, state := range []string{"SELECT 3", "CLIENT ID", "WATCH k"} {
		t.Run(state, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				a := t.handle()
				a.do("SELECT 3", "+OK")
				a.do("SET k three", "+OK")
				a.send(state)
				a.wantLine("")
				a.do("RESET", "+RESET")
				a.do("SET k zero", "+OK")
				if s := t.stats(); s.Pinned != 0 || s.InUse != 0 {
					t.Errorf("pinned %d, in use %d", s.Pinned, s.InUse)
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
	inLab(t, driver.Config{}, func(t *lab) {
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
	inLab(t, driver.Config{Pool: pooler.Config{HealthCheckInterval: time.Second}}, func(t *lab) {
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
	inLab(t, driver.Config{}, func(t *lab) {
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
