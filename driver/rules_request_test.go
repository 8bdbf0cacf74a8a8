package driver_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
			inBothLabs(t, one(), func(t *lab) {
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
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.slow(100 * time.Millisecond) // less than SilenceAfter
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
		if t.leased {
			t.wantRan("1 GET slow", "2 GET slowb", "2 GET c")
		} else { // it costs nothing at all
			t.wantRan("1 GET slow", "1 GET slowb", "1 GET c")
		}
	})
}

func TestAPartlySentCommandNeverMeetsTheNextCaller(t *testing.T) {
	for _, where := range []string{"between the pieces", "behind a whole command"} {
		t.Run(where, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
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

// The end of a command that was sent in part waits for what is behind it: until that is
// complete its connection has half of it.
func TestTheEndOfACommandThatIsUnsentNeverMeetsTheNextCaller(t *testing.T) {
	const body = 70_000
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprint(closed), func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				a, b := t.handle(), t.handle()
				if !closed {
					t.slow(100 * time.Millisecond)
					a.send("GET slow")
				}
				a.write(fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", body) + strings.Repeat("v", body))
				if closed {
					a.write("\r\n" + frames("GET y") + "*2\r\n$3\r\nGET")
				} else {
					read := make(chan struct{})
					go func() { // it uses the connection until it looks up
						defer close(read)
						_ = a.failure()
					}()
					synctest.Wait()
					if _, err := io.WriteString(a, "\r\n*0\r\n"); err == nil {
						t.Error("taken")
					}
					<-read
				}
				a.close()
				if closed {
					b.do("GET k", "$-1")
				} else {
					b.do("GET k", "$1 k") // as the slow server answers
				}
				for _, e := range t.ran() {
					if strings.Contains(e, "SET") {
						t.Errorf("executed %.20q", e)
					}
				}
				if s := t.stats(); s.Dials != 2 || s.Closes[pooler.CloseWrite] != 1 {
					t.Errorf("dials %d, closes %v", s.Dials, s.Closes)
				}
			})
		})
	}
}

func TestAnUnfinishedCommandIsNotSent(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		whole := frames("SET k v")
		for at := 1; at < len(whole); at++ {
			a := t.handle()
			a.write(whole[:at])
			a.close()
		}
		if s := t.stats(); s.Admitted != 0 || t.f.Dials() > 1 {
			t.Errorf("%d requests, %d dials for nothing", s.Admitted, t.f.Dials())
		}
		t.handle().do("GET k", "$-1")
		t.wantRan("1 GET k")
	})
}

// A command that is sent in part holds its connection; nobody else's goes in
// between.
func TestACommandThatIsSentInPartHoldsItsConnection(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
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
			inBothLabs(t, one(), func(t *lab) {
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
