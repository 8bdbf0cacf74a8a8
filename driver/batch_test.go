package driver_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// The tests here are of batches that are cut short: by a connection that breaks in
// the middle of them, by a deadline, by Close. What may go on elsewhere does, and
// what has been run, or may have been, is not run again.

// told writes the commands and returns what the caller is told in the end: by
// Write, or by Read.
func (v *virtual) told(lines ...string) error {
	if _, err := io.WriteString(v, frames(lines...)); err != nil {
		return err
	}
	return v.failure()
}

func isUnknown(err error) bool { return errors.Is(err, pooler.ErrUnknownOutcome) }

// wantUnknown checks that go-redis won't try again.
func (l *lab) wantUnknown(err error) {
	l.Helper()
	l.wantErr(err, pooler.ErrUnknownOutcome)
}

// wantLost checks that go-redis will try again: nothing has run, or it does no harm.
func (l *lab) wantLost(err error) {
	l.Helper()
	if !errors.Is(err, io.EOF) || isUnknown(err) {
		l.Errorf("error %v (%T), want that of a lost connection", err, err)
	}
}

// wantAgain checks how many requests went on another connection.
func (l *lab) wantAgain(moved, resent int64) {
	l.Helper()
	if s := l.stats(); s.Moved != moved || s.Resent != resent {
		l.Errorf("moved %d, resent %d; want %d and %d", s.Moved, s.Resent, moved, resent)
	}
}

// wantUnknowns checks how many requests are counted as unknown.
func (l *lab) wantUnknowns(n int64) {
	l.Helper()
	if s := l.stats(); s.Unknown != n {
		l.Errorf("unknown %d, want %d", s.Unknown, n)
	}
}

// tooLate gives the handle a write deadline that has passed already.
func (v *virtual) tooLate() {
	_ = v.SetWriteDeadline(time.Now())
	time.Sleep(time.Millisecond)
}

// flaky lets a test spoil what is written to the server.
type flaky struct {
	net.Conn
	spoil func(b []byte) error
}

func (f flaky) Write(b []byte) (int, error) {
	if err := f.spoil(b); err != nil {
		return 0, err
	}
	return f.Conn.Write(b)
}

// resetting resets the first connection in the middle of a write, after so many
// bytes. conns counts the connections; a lab begins with none.
func resetting(conns *int, at int) testkit.FakeOption {
	return testkit.WithConnWrapper(func(c net.Conn) net.Conn {
		if *conns++; *conns > 1 {
			return c
		}
		return testkit.ByteFault{Kind: testkit.FaultReset, Dir: testkit.ToServer, At: int64(at), ShortWrite: true}.Wrap(c)
	})
}

// It would run outside the transaction, without what it watches, or in another's
// slot.
func TestWhatIsBoundToItsConnectionIsNeverMovedToAnother(t *testing.T) {
	for _, c := range []struct{ state, request string }{
		{"WATCH k", "GET k"},
		{"MULTI", "INCR n"},
		{"ASKING", "GET k"},
		{"CLIENT ID", "GET k"},
	} {
		t.Run(c.state, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				a := t.handle()
				a.send(c.state)
				a.wantLine("")
				t.f.ResetAll() // the next write fails before its first byte
				t.wantLost(a.told(c.request))
				t.wantRan("1 " + c.state)
				t.wantAgain(0, 0)
			})
		})
	}
	t.Run("a transaction that watches", func(t *testing.T) {
		inBothLabs(t, driver.Config{}, func(t *lab) {
			a := t.handle()
			a.do("WATCH k", "+OK")
			t.f.ResetAll()
			_, err := io.WriteString(a, frames("MULTI", "INCR n", "EXEC"))
			t.wantErr(err, pooler.ErrConnGone) // go-redis must not try it without its WATCH
			t.wantRan("1 WATCH k")
			t.wantAgain(0, 0)
		})
	})
}

// go-redis writes a long pipeline in several pieces, and repeats it as a whole.
func TestALaterPieceThatCanNotBeSentIsToldForTheEarlierOneThatHasRun(t *testing.T) {
	for _, received := range []bool{false, true} {
		inBothLabs(t, one(), func(t *lab) {
			a := t.handle()
			a.send("INCR n")
			synctest.Wait()
			want := []string{"1 INCR n"}
			if received {
				if t.leased {
					return // nobody else receives from a lease
				}
				t.handle().do("GET x", "$-1") // and what a has not read yet is kept for it
				want = append(want, "1 GET x")
			}
			t.f.ResetAll()
			t.wantUnknown(a.told("GET k"))
			t.wantRan(want...)
			t.wantAgain(0, 0)
			t.wantUnknowns(1)
		})
	}
}

// The handle knows by the reply as well; to the pool the exchange is one by itself.
func TestAnExchangeThatFollowsOneThatWasAnsweredMayHaveRun(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		p, err := pooler.New(pooler.Node{Network: "tcp", Addr: labAddr, Dial: t.f.Dial}, pooler.Config{MaxOpenConns: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		shared, err := p.Share(t.Context(), pooler.Request{Session: pooler.NewSession()})
		if err != nil {
			t.Fatal(err)
		}
		a, b := pooler.NewRider(), pooler.NewRider()
		submit := func(r *pooler.Rider, command string, follows bool) {
			t.Helper()
			request := frames(command)
			x := pooler.Exchange{Request: []byte(request), Replies: 1, First: len(request), Follows: follows}
			if err := shared.Submit(r, x); err != nil {
				t.Fatal(err)
			}
		}
		submit(a, "INCR n", false)
		submit(b, "GET k", false)
		reply := make([]byte, 99)
		if _, _, err := b.Receive(reply, time.Time{}); err != nil { // and what is a's is kept for it
			t.Fatal(err)
		}
		t.f.ResetAll()
		submit(a, "GET k", true)
		n, _, err := a.Receive(reply, time.Time{})
		if string(reply[:n]) != ":1\r\n" || err != nil {
			t.Fatalf("%q, %v", reply[:n], err)
		}
		_, _, err = a.Receive(reply, time.Time{})
		t.wantErr(err, pooler.ErrLost)
		if ran, _ := a.Lost(); !ran {
			t.Error("none of it has run")
		}
	})
}

// halfway writes so much of a pipeline that its beginning is sent, and reads the
// replies to that. It returns the rest, which begins within a command.
func (v *virtual) halfway() (rest string) {
	v.l.Helper()
	get := frames("GET k")
	v.write(frames("INCR n", "SET pad "+strings.Repeat("x", 66_000)) + get[:7])
	v.want(":1 +OK")
	return get[7:]
}

func TestTheRestOfABatchThatHasRunInPartIsNeverCalledUnsent(t *testing.T) {
	for name, spoil := range map[string]func(t *lab){
		"the connection is lost": func(t *lab) { t.f.ResetAll() },
		"the node is down":       func(t *lab) { t.f.DownRefused() },
		"no connection is free":  func(t *lab) { t.handle().do("WATCH x", "+OK") },
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				a := t.handle()
				rest := a.halfway()
				spoil(t)
				_ = a.SetDeadline(time.Now().Add(time.Second))
				_, err := io.WriteString(a, rest)
				if err == nil {
					err = a.failure()
				}
				t.wantUnknown(err)
				if n := t.f.Count("GET"); n != 0 {
					t.Errorf("executed %q", t.ran())
				}
			})
		})
	}
}

// What was not sent has no effect, so that the reads before it may run again.
func TestALaterPieceThatCanNotBeSentMakesNothingUnsafe(t *testing.T) {
	reads := frames("ECHO "+strings.Repeat("x", 66_000), "GET k")
	for name, c := range map[string]struct {
		earlier string
		spoil   func(t *lab, v *virtual)
		want    error
	}{
		"the connection is lost": {frames("GET k"), func(t *lab, _ *virtual) { t.f.ResetAll() }, io.EOF},
		"the time is over":       {frames("UNWATCH"), func(_ *lab, v *virtual) { v.tooLate() }, os.ErrDeadlineExceeded},
		"no connection is free": {reads + frames("INCR n")[:7], func(t *lab, v *virtual) {
			v.wantLine("$66000")
			v.wantLine("xxx")
			v.want("$-1")
			t.handle().do("WATCH x", "+OK")
		}, pooler.ErrWaitTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				if !t.leased && name == "the connection is lost" {
					return // how much of it was sent isn't known there
				}
				a := t.handle()
				a.write(c.earlier)
				synctest.Wait()
				_ = a.SetDeadline(time.Now().Add(time.Second))
				c.spoil(t, a)
				rest := frames("INCR n")
				if strings.HasSuffix(c.earlier, rest[:7]) {
					rest = rest[7:]
				}
				_, err := io.WriteString(a, rest)
				if err == nil {
					err = a.failure()
				}
				t.wantErr(err, c.want)
				if isUnknown(err) || t.f.Count("INCR") != 0 {
					t.Errorf("told %v, %d runs", err, t.f.Count("INCR"))
				}
			})
		})
	}
}

func TestABatchOfWhichAPartWasSentIsNeverHeldBack(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		a.send("MULTI", "INCR n")
		a.tooLate()
		_, err := io.WriteString(a, frames("EXEC"))
		t.wantUnknown(err)
		t.handle().do("GET k", "$-1") // not inside it
		t.wantRan("1 MULTI", "2 GET k")
		t.wantUnknowns(1)
	})
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		a.send("INCR n")
		a.tooLate()
		_, err := io.WriteString(a, frames("INCR n"))
		t.wantUnknown(err)
		synctest.Wait()
		t.wantRan("1 INCR n")
		t.wantUnknowns(1)
	})
}

// What the server can't have run goes on another connection, whatever it is; from
// the last byte of the first command on nobody knows.
func TestAWriteThatIsCutShortMovesTheRequestUntilItsFirstCommandIsOut(t *testing.T) {
	first, request := len(frames("INCR n")), frames("INCR n", "GET k")
	for at := range len(request) {
		conns := 0
		inBothLabs(t, driver.Config{}, func(t *lab) {
			conns = 0
			a := t.handle()
			if at < first {
				a.write(request)
				a.want(":1 $-1")
				t.wantRan("2 INCR n", "2 GET k")
				t.wantAgain(1, 0)
				return
			}
			t.wantUnknown(a.told("INCR n", "GET k"))
			synctest.Wait()
			if n := t.f.Count("INCR"); n != 1 {
				t.Errorf("cut at %d: executed %q", at, t.ran())
			}
			t.wantAgain(0, 0)
		}, resetting(&conns, at))
	}
}

func TestARequestThatDiesUnsentOnEveryConnectionIsMovedEightTimesAndTold(t *testing.T) {
	tries := 0
	inBothLabs(t, driver.Config{}, func(t *lab) {
		tries = 0
		t.wantLost(t.handle().told("INCR n"))
		if tries != 9 || t.f.Count("INCR") != 0 {
			t.Errorf("%d tries, executed %q", tries, t.ran())
		}
		t.wantAgain(8, 0)
	}, testkit.WithConnWrapper(func(c net.Conn) net.Conn {
		return flaky{c, func(b []byte) error {
			if !strings.Contains(string(b), "INCR") || tries == 100 { // so that a loop ends
				return nil
			}
			tries++
			return &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}
		}}
	}))
}

// half is a command with an argument of that many bytes, without its end.
func half(n int, args ...string) string {
	var s strings.Builder
	s.WriteString(fmt.Sprintf("*%d\r\n", len(args)+1))
	for _, a := range args {
		s.WriteString(fmt.Sprintf("$%d\r\n%s\r\n", len(a), a))
	}
	return s.String() + fmt.Sprintf("$%d\r\n%s", n, strings.Repeat("x", n))
}

// A server that gets the tail alone skips it, and runs what follows.
func TestTheTailOfALargeCommandIsNeverMoved(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		a.write(half(70_000, "SET", "k"))
		synctest.Wait()
		t.f.ResetAll()
		_, err := io.WriteString(a, "\r\n"+frames("INCR n"))
		t.wantErr(err, io.EOF) // as on a socket: go-redis, which has all of it, tries it again
		synctest.Wait()
		t.wantAgain(0, 0)
		if n := len(t.f.Log()); n != 0 || t.f.Dials() != 1 {
			t.Errorf("%d commands executed, %d dials", n, t.f.Dials())
		}
	})
}

func TestALargeReadIsNotSentAgainFromItsTail(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.f.Handle("ECHO", func(c *testkit.FakeConn, _ []string) []byte { c.ResetNow(); return nil })
		a := t.handle()
		a.write(half(70_000, "ECHO"))
		a.write("\r\n")
		t.wantLost(a.failure())
		t.wantAgain(0, 0)
		if n := t.f.Count("ECHO"); n != 1 || t.f.Dials() != 1 {
			t.Errorf("%d runs, %d dials", n, t.f.Dials())
		}
	})
}

// The server still waits for the rest of it, and would take the next request for
// that.
func TestAConnectionOnWhichACommandWasCutShortByADeadlineIsNeverUsedAgain(t *testing.T) {
	const size = 66_000
	whole := half(size-len(half(10_000, "SET", "k"))+10_000, "SET", "k") // but for its CRLF
	for name, pieces := range map[string][2]string{
		"within its argument": {half(100_000, "SET", "k")[:size], strings.Repeat("x", 1000)},
		"at its end":          {whole, "\r\n"},
		"before the next one": {whole, "\r\n" + frames("INCR n")},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				a := t.handle()
				t.f.Freeze(true)
				a.write(pieces[0]) // fills the buffers
				_ = a.SetWriteDeadline(time.Now().Add(time.Second))
				if _, err := io.WriteString(a, pieces[1]); err == nil || isUnknown(err) {
					t.Errorf("%v, want that it was not sent", err)
				}
				a.close()
				t.f.Freeze(false)
				t.handle().do("INCR n", ":1")
				t.wantRan("2 INCR n")
			}, testkit.WithBuffer(size))
		})
	}
}

// What is sent again is sent as it was; so it has to be all of the batch.
func TestALostReadIsNotSentAgainIfThereIsMoreToItsBatch(t *testing.T) {
	get := frames("GET k")
	for name, written := range map[string][]string{
		"half a command behind it":    {get, get[:9]},
		"another one behind it":       {get, frames("ECHO x")},
		"another piece before it":     {frames("ECHO x"), get},
		"a piece that isn't kept":     {frames("UNWATCH"), get},
		"with an answer from memory":  {frames("SELECT 1", "GET k")},
		"with what changes the state": {frames("SELECT 2", "GET k")},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				t.f.Handle("GET", func(c *testkit.FakeConn, _ []string) []byte {
					if t.f.Count("GET") == 1 {
						time.Sleep(100 * time.Millisecond) // less than SilenceAfter
						c.ResetNow()
					}
					return testkit.ReplyInt(7)
				})
				t.handle().do("SELECT 1", "+OK")
				a := t.handle()
				for _, w := range written {
					a.write(w)
				}
				t.wantLost(a.failure())
				t.wantAgain(0, 0)
				synctest.Wait()
				if t.f.Count("GET") != 1 || t.f.Count("ECHO") > 1 || t.f.Count("SELECT") > 2 {
					t.Errorf("executed %q", t.ran())
				}
			})
		})
	}
}

// By the read deadline: that of the write was for the first time.
func TestAReadIsSentAgainAlsoWhenItsWriteDeadlineHasPassed(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.f.Handle("GET", func(c *testkit.FakeConn, _ []string) []byte {
			if t.f.Count("GET") == 1 {
				time.Sleep(100 * time.Millisecond)
				c.ResetNow()
			}
			return testkit.ReplyInt(7)
		})
		a := t.handle()
		_ = a.SetWriteDeadline(time.Now().Add(time.Millisecond))
		a.do("GET k", ":7")
		t.wantAgain(0, 1)
	})
}

// One command among a hundred makes the pipeline unsafe, wherever it is.
func TestTheWorstOfABatchDecidesHoweverItWasWritten(t *testing.T) {
	for _, pieces := range [][]string{
		{"INCR n|GET k"},
		{"INCR n", "GET k"},
		{"INCR n|UNWATCH|GET k"},
		{"INCR n", "UNWATCH|GET k"},
		{"MULTI|INCR n|EXEC|UNWATCH", "GET k"},
	} {
		t.Run(strings.Join(pieces, " and "), func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				t.f.Handle("GET", func(c *testkit.FakeConn, _ []string) []byte {
					time.Sleep(100 * time.Millisecond)
					c.ResetNow()
					return nil
				})
				a := t.handle()
				for _, p := range pieces {
					a.send(strings.Split(p, "|")...)
				}
				t.wantUnknown(a.failure())
				t.wantAgain(0, 0)
				if s := t.stats(); t.f.Count("INCR") != 1 || s.Unknown != 1 {
					t.Errorf("executed %q, unknown %d", t.ran(), s.Unknown)
				}
			})
		})
	}
}

// That is what the caller has to know, more than what was wrong.
func TestAMalformedRequestBehindOneThatMayHaveRunIsAnUnknownOutcome(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		a.send("INCR n")
		_, err := io.WriteString(a, "*0\r\n")
		t.wantUnknown(err)
	})
}

// The replication stream, whatever it was asked with, is over when it is lost.
func TestALostStreamIsNoUnknownOutcome(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.answers("+CONTINUE\r\n", "PSYNC")
		a := t.handle()
		a.do("PSYNC ? -1", "+CONTINUE")
		t.f.ResetAll()
		t.wantLost(a.failure())
	})
}

// Its reply may have a push within it, which was meant for that handle alone.
func TestAStateThatIsSetWherePushesComeIsRememberedForNobodyElse(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		push := testkit.ReplyPush(testkit.ReplyBulk("invalidate"), testkit.ReplyBulk("k"))
		a := t.handle()
		a.do("CLIENT TRACKING ON", "+OK")
		t.f.Handle("SELECT", func(*testkit.FakeConn, []string) []byte { return append(push, "+OK\r\n"...) })
		a.send("SELECT 1")
		a.want(">2 $10 invalidate $1 k +OK")
		t.f.Handle("SELECT", nil)
		t.handle().do("SELECT 1", "+OK")
		if n := t.f.Count("SELECT"); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestARefusedPinFreesNoConnectionWhoseStateNobodyKnows(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.answers("-ERR refused\r\n", "CLIENT TRACKING")
		a := t.handle()
		a.send("SELECT 1", "SET k one", "CLIENT TRACKING ON")
		a.want("+OK +OK")
		a.wantLine("-ERR refused")
		if s := t.stats(); s.Pinned != 1 {
			t.Errorf("pinned %d", s.Pinned)
		}
		a.close()
		t.handle().do("GET k", "$-1") // in database 0
	})
}

// The write was another session's, and so is what its connection is asked now.
func TestWaitAsksOnlyInTheSessionInWhichTheWriteWasMade(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		a, b := t.handle(), t.handle()
		a.do("SET k v", "+OK")
		b.do("SELECT 1", "+OK") // takes the connection along
		a.do("SELECT 1", "+OK") // from memory
		_, err := io.WriteString(a, frames("WAIT 0 0"))
		t.wantErr(err, pooler.ErrConnGone)
		t.wantRan("1 SET k v", "1 SELECT 1")
		c := t.handle()
		c.do("SELECT 1", "+OK")
		c.do("SET k v", "+OK")
		c.do("WAIT 0 0", ":0")
	})
}

func TestWaitBehindAWriteOfItsOwnBatchNeedsNoEarlierConnection(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		a.do("SET k v", "+OK")
		t.f.ResetAll()
		a.send("SET k w", "WAIT 0 0")
		a.want("+OK :0")
		t.wantRan("1 SET k v", "2 SET k w", "2 WAIT 0 0")
	})
}

// They would wait for their own deadlines, and fail, though the server is there.
func TestAHandshakeThatFailsReleasesThoseWhoWaitForIt(t *testing.T) {
	for name, end := range map[string]func(t *lab, leader *virtual){
		"the connection is lost": func(t *lab, leader *virtual) {
			t.f.ResetAll()
			t.wantLost(leader.failure())
		},
		"the handle is closed": func(_ *lab, leader *virtual) { leader.close() },
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				leader, other := t.handle(), t.handle()
				t.f.Freeze(true)
				leader.send("SELECT 1")
				start := time.Now()
				waiting := t.blocked(func() error { _, err := io.WriteString(other, frames("SELECT 1")); return err })
				end(t, leader)
				t.f.Freeze(false)
				if err := waiting(); err != nil {
					t.Errorf("whoever has waited: %v", err)
				}
				other.want("+OK")
				if d := time.Since(start); d > 100*time.Millisecond {
					t.Errorf("after %v", d)
				}
			})
		})
	}
}

// A transaction that has been accepted unsent goes out once, whole, and by the
// deadline of whoever reads.
func TestATransactionThatIsHeldBackKeepsNobodyWaiting(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		a := t.handle()
		a.tooLate()
		a.send("MULTI", "INCR n", "EXEC")
		t.handle().do("GET k", "$-1")
		a.want("+OK +QUEUED *1 :1")
		t.wantRan("1 GET k", "1 MULTI", "1 EXEC", "1 INCR n")
	})
}

func TestATransactionThatIsHeldBackKeepsWhatItWatches(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		a.do("WATCH k", "+OK")
		t.handle().do("SET k v", "+OK")
		a.tooLate()
		a.send("MULTI", "INCR n", "EXEC")
		a.want("+OK +QUEUED *-1")
		if n := t.f.Count("INCR"); n != 0 {
			t.Errorf("executed %q", t.ran())
		}
	})
}

func TestATransactionThatWasHeldBackAndCutShortIsAnUnknownOutcome(t *testing.T) {
	// On the connection that others have used before.
	before := len(frames("WATCH k", "UNWATCH"))
	for at, unknown := range map[int]bool{
		len(frames("MULTI")) - 1:           false,
		len(frames("MULTI")):               true,
		len(frames("MULTI", "INCR n")):     true,
		len(frames("MULTI", "INCR n")) + 5: true,
	} {
		conns := 0
		inBothLabs(t, one(), func(t *lab) {
			conns = 0
			a, holder := t.handle(), t.handle()
			holder.do("WATCH k", "+OK")
			_ = a.SetWriteDeadline(time.Now().Add(time.Second))
			a.send("MULTI", "INCR n", "EXEC")
			holder.do("UNWATCH", "+OK")
			if !unknown {
				a.want("+OK +QUEUED *1 :1")
				t.wantAgain(1, 0)
				return
			}
			t.wantUnknown(a.failure())
			synctest.Wait()
			if n := t.f.Count("INCR"); n != 0 {
				t.Errorf("cut at %d: executed %q", at, t.ran())
			}
		}, resetting(&conns, before+at))
	}
}

// Read would have to begin with a part that is gone.
func TestATransactionBehindTheTailOfALargeCommandIsNeverHeldBack(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		a.write(half(70_000, "SET", "k"))
		a.tooLate()
		_, err := io.WriteString(a, "\r\n"+frames("MULTI", "INCR n", "EXEC"))
		t.wantErr(err, pooler.ErrConnGone)
		synctest.Wait()
		if n := len(t.f.Log()); n != 0 {
			t.Errorf("%d commands executed", n)
		}
	})
}

// go-redis gives a handle on whose caller has left before it read.
func TestATransactionThatNobodyHasReadIsNotTheNextCallers(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		a.tooLate()
		a.send("MULTI", "INCR n", "EXEC")
		_ = a.SetDeadline(time.Time{})
		t.wantLost(a.told("GET k"))
		t.wantRan()
	})
}

// Whoever is told that a request was never sent may send it again.
func TestARequestThatFindsNoSecondConnectionWasNeverSent(t *testing.T) {
	for _, request := range []string{"INCR n", "INCR n|INCR n", "MULTI|INCR n|EXEC"} {
		t.Run(request, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				a := t.handle()
				a.do("GET k", "$-1")
				t.f.DownRefused()
				_ = a.SetWriteDeadline(time.Now().Add(time.Second))
				_ = a.SetReadDeadline(time.Now().Add(2 * time.Second))
				err := a.told(strings.Split(request, "|")...)
				if isUnknown(err) || !errors.Is(err, pooler.ErrWaitTimeout) && !errors.Is(err, pooler.ErrNodeDown) {
					t.Errorf("told %v, of what was never sent", err)
				}
			})
		})
	}
}

// Nor may it be told that nobody knows, when its caller has no more time, or leaves.
func TestARequestThatWaitsForASecondConnectionWasNotSent(t *testing.T) {
	inLab(t, leased(driver.Config{}), func(t *lab) {
		a := t.handle()
		a.do("GET k", "$-1")
		t.f.HangDials(true)
		t.f.ResetAll()
		result := t.blocked(func() error { _, err := io.WriteString(a, frames("INCR n")); return err })
		_ = a.SetReadDeadline(time.Now().Add(time.Second))
		if err := a.failure(); !errors.Is(err, os.ErrDeadlineExceeded) || isUnknown(err) {
			t.Errorf("%v, want a timeout", err)
		}
		_ = a.Close()
		err := result()
		t.wantErr(err, net.ErrClosed)
		if isUnknown(err) {
			t.Errorf("told %v, of what was never sent", err)
		}
		t.f.HangDials(false)
	})
}

func TestARequestThatIsBeingWrittenWhenItsHandleIsClosedIsAnUnknownOutcome(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		t.f.Freeze(true)
		request := frames(slices.Repeat([]string{"INCR n"}, 10)...)
		result := t.blocked(func() error { _, err := io.WriteString(a, request); return err })
		reading := t.blocked(func() error { _, err := a.Conn.Read(make([]byte, 9)); return err })
		_ = a.Close()
		t.wantUnknown(reading())
		t.f.Freeze(false)
		t.wantUnknown(result())
		if t.leased {
			t.wantUnknowns(1)
		}
	}, testkit.WithBuffer(100))
}

// On a shared connection where too much waits to be written already.
func TestARequestThatWaitsForRoomWhenItsHandleIsClosedWasNotSent(t *testing.T) {
	for _, earlier := range []string{"", "INCR n"} {
		t.Run("after "+earlier, func(t *testing.T) {
			inLab(t, one(), func(t *lab) {
				a := t.handle()
				if earlier != "" {
					a.send(earlier)
					synctest.Wait()
				}
				t.f.Freeze(true)
				const room = 1 << 20
				large := slices.Repeat([]string{"ECHO " + strings.Repeat("x", 13083)}, 5) // a larger one had a lease
				large[0] += "x"

				if n := len(frames(large...)); n != 64<<10 {
					t.Fatalf("%d bytes", n)
				}
				for range room/(64<<10) + 1 { // the first is being written
					t.handle().send(large...)
					synctest.Wait()
				}
				result := t.blocked(func() error { _, err := io.WriteString(a, frames("INCR m")); return err })
				_ = a.Close()
				switch err := result(); {
				case earlier != "":
					t.wantUnknown(err)
				case !errors.Is(err, net.ErrClosed) || isUnknown(err):
					t.Errorf("%v, want net.ErrClosed", err)
				}
				t.f.Freeze(false)
				synctest.Wait()
				if n := t.f.Count("INCR m"); n != 0 {
					t.Errorf("%d runs", n)
				}
			}, testkit.WithBuffer(1000))
		})
	}
}

// As above, where Read has less time than Write.
func TestARequestThatIsBeingWrittenWhenItsReadDeadlinePassesIsAnUnknownOutcome(t *testing.T) {
	inLab(t, leased(driver.Config{}), func(t *lab) {
		a := t.handle()
		t.f.Freeze(true)
		request := frames(slices.Repeat([]string{"INCR n"}, 10)...)
		result := t.blocked(func() error { _, err := io.WriteString(a, request); return err })
		_ = a.SetReadDeadline(time.Now().Add(time.Second))
		err := a.failure()
		t.wantUnknown(err)
		t.checkTimeout(err, true)
		t.f.Freeze(false)
		if err := result(); err != nil {
			t.Error(err)
		}
	}, testkit.WithBuffer(100))
}

func TestATimeoutAfterTheLastReplyIsNoUnknownOutcome(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		a.do("INCR n", ":1")
		_ = a.SetReadDeadline(time.Now().Add(time.Second))
		if err := a.failure(); !errors.Is(err, os.ErrDeadlineExceeded) || isUnknown(err) {
			t.Errorf("%v, want a timeout", err)
		}
	})
}

// Once, however often its caller is told so, and not if its reply has come after
// all.
func TestAnUnknownOutcomeIsCountedOnceForEachRequest(t *testing.T) {
	for name, c := range map[string]struct {
		before []string
		leave  func(t *lab, v *virtual)
		want   int64
	}{
		"late": {nil, func(_ *lab, v *virtual) { v.expire(time.Second) }, 1},
		"late, twice": {nil, func(_ *lab, v *virtual) {
			v.expire(time.Second)
			v.expire(time.Second)
		}, 1},
		"late, on a lease": {[]string{"GET k", "WATCH k"}, func(_ *lab, v *virtual) { v.expire(time.Second) }, 1},
		"late and lost": {nil, func(t *lab, v *virtual) {
			v.expire(time.Second)
			t.f.ResetAll()
			t.wantUnknown(v.failure())
		}, 1},
		"lost, on a lease": {[]string{"GET k", "WATCH k"}, func(t *lab, v *virtual) {
			t.f.ResetAll()
			t.wantUnknown(v.failure())
		}, 1},
		"nobody reads": {nil, func(*lab, *virtual) {}, 0},
		"closed while it is read": {nil, func(t *lab, v *virtual) {
			result := t.blocked(func() error { return v.failure() })
			_ = v.Close()
			t.wantUnknown(result())
		}, 1},
		"late, but answered, on a lease": {[]string{"WATCH k"}, func(_ *lab, v *virtual) {
			v.expire(time.Second)
			_ = v.SetReadDeadline(time.Time{})
			v.want(":7")
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				t.f.Handle("INCR", func(*testkit.FakeConn, []string) []byte {
					time.Sleep(10 * time.Second)
					return testkit.ReplyInt(7)
				})
				a := t.handle()
				for _, b := range c.before {
					a.send(b)
					a.wantLine("")
				}
				a.send("INCR n")
				synctest.Wait()
				c.leave(t, a)
				_ = a.Close()
				synctest.Wait()
				t.wantUnknowns(c.want)
			})
		})
	}
}

// Nothing of it was sent, so that nothing is owed.
func TestAWriteDeadlineThatHasPassedCostsNoConnection(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.handle().do("GET k", "$-1")
		a := t.handle()
		a.tooLate()
		start := time.Now()
		_, err := io.WriteString(a, frames("INCR n"))
		if !errors.Is(err, os.ErrDeadlineExceeded) || isUnknown(err) {
			t.Errorf("%v, want a timeout", err)
		}
		t.handle().do("GET k", "$-1")
		t.wantRan("1 GET k", "1 GET k")
		if s := t.stats(); leases(s) != 0 || time.Since(start) != 0 {
			t.Errorf("leased %d, after %v", leases(s), time.Since(start))
		}
	})
}

// A refused command ends its pin while Read takes the replies, without the lock:
// what is written then fails, and its connection is Read's still.
func TestAConnectionThatReadStillUsesIsNotGivenBackByWrite(t *testing.T) {
	for name, spoil := range map[string]func(t *lab, v *virtual){
		"it is dead": func(t *lab, _ *virtual) { t.f.ResetAll() },
		"it is late": func(_ *lab, v *virtual) { v.tooLate() },
	} {
		t.Run(name, func(t *testing.T) {
			var ended func()
			cfg := hook(func() {}, func(reason string) {
				if reason == "" {
					ended()
				}
			})
			inBothLabs(t, cfg, func(t *lab) {
				t.answers("-ERR refused\r\n", "CLIENT TRACKING")
				a := t.handle()
				times := 0
				ended = func() {
					times++
					spoil(t, a)
					if _, err := io.WriteString(a, frames("GET k")); err == nil {
						t.Error("it was sent")
					}
					if s := t.stats(); s.Idle != 0 || s.InUse != 1 {
						t.Errorf("idle %d, in use %d", s.Idle, s.InUse)
					}
				}
				a.send("CLIENT TRACKING ON")
				if err := a.failure(); isUnknown(err) || times != 1 {
					t.Errorf("%v, after %d pins have ended", err, times)
				}
				t.wantAgain(0, 0)
				t.wantRan("1 CLIENT TRACKING ON")
			})
		})
	}
}
