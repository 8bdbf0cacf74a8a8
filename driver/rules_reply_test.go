package driver_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func TestAnAbandonedExchangeKeepsItsPlace(t *testing.T) {
	for _, how := range []string{"timed out and closed", "closed"} {
		t.Run(how, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				t.slow(100 * time.Millisecond)
				a, b := t.handle(), t.handle()
				a.send("GET slow1", "GET a2")
				if how != "closed" {
					a.expire(10 * time.Millisecond)
				}
				a.close()
				b.do("GET b", "$1 b")
				b.do("GET b2", "$2 b2")
				t.wantRan("1 GET slow1", "1 GET a2", "1 GET b", "1 GET b2")
				if s := t.stats(); s.Abandoned != 1 || s.Dials != 1 {
					t.Errorf("abandoned %d, dials %d", s.Abandoned, s.Dials)
				}
			})
		})
	}
}

func TestACallerThatTimedOutCostsNoConnectionAndGetsNobodysReply(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.slow(50 * time.Millisecond)
		rdb := t.client(func(o *redis.Options) { o.ReadTimeout, o.Protocol = 20*time.Millisecond, 2 })
		for i := range 20 {
			if v, err := rdb.Get(t.Context(), fmt.Sprint("slow", i)).Result(); err == nil {
				t.Fatalf("no timeout but %q", v)
			}
			want := fmt.Sprint("quick", i)
			time.Sleep(50 * time.Millisecond)
			if v, err := rdb.Get(t.Context(), want).Result(); v != want || err != nil {
				t.Fatalf("%q, %v; want %q", v, err, want)
			}
		}
		if n := t.f.Dials(); n != 1 {
			t.Errorf("%d dials", n)
		}
	})
}

// The stray reply comes together with one that was asked for: whoever comes next
// would take it for theirs.
func TestAReplyWithNobodyWaitingKillsTheConnection(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.f.Handle("GET", func(_ *testkit.FakeConn, args []string) []byte {
			reply := testkit.ReplyBulk(args[1])
			if args[1] == "two" {
				reply = append(reply, "$5\r\nstray\r\n"...)
			}
			return reply
		})
		a, b := t.handle(), t.handle()
		a.do("GET two", "$3 two")
		b.do("GET b", "$1 b")
		t.wantRan("1 GET two", "2 GET b")
		if n := t.stats().Closes[pooler.CloseUnasked]; n != 1 {
			t.Errorf("%d closed as unasked", n)
		}
	})
}

func TestPushesAndAttributesAreNotReplies(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		const push, attr = ">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", "|1\r\n+ttl\r\n:1\r\n"
		t.f.Handle("GET", func(_ *testkit.FakeConn, args []string) []byte {
			return []byte(push + attr + string(testkit.ReplyBulk(args[1])) + push)
		})
		a, b := t.handle(), t.handle()
		a.do("GET a", "|1 +ttl :1 $1 a")
		b.do("GET b", "|1 +ttl :1 $1 b")
		t.wantRan("1 GET a", "1 GET b")
		// Once: those on a shared connection are counted only when it ends, so
		// that a server's pushes don't show for as long as it is used.
		if n := t.stats().PushesDropped; n != 4 {
			t.Errorf("%d pushes dropped", n)
		}
	})
}

// The rest of the push would be taken for the next caller's message.
func TestHalfAPushBehindAReplyNeverMeetsTheNextCaller(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		var c *testkit.FakeConn // it may have ended when TYPE is answered
		t.f.Handle("TYPE", func(conn *testkit.FakeConn, _ []string) []byte {
			c = conn
			return append(testkit.ReplySimple("string"), ">2\r\n$3\r\nfoo\r\n"...)
		})
		a, b := t.handle(), t.handle()
		a.do("TYPE k", "+string")
		b.send("SUBSCRIBE c")
		c.Push([]byte("$3\r\nbar\r\n"))
		b.want("*3 $9 subscribe $1 c :1")
	})
}

// A dropped push is no reason to wait for more, with the lock held least of all.
func TestAReplyIsNotHeldBackByThePushBehindIt(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.slow(time.Second)
		t.f.Handle("TYPE", func(*testkit.FakeConn, []string) []byte {
			return append(testkit.ReplySimple("string"), testkit.ReplyPush(testkit.ReplyBulk("x"))...)
		})
		a := t.handle()
		start := time.Now()
		a.send("TYPE k", "GET slow")
		a.want("+string")
		if d := time.Since(start); d != 0 {
			t.Errorf("held back for %v", d)
		}
		a.want("$4 slow")
	})
}

func TestAnyErrorAfterTheFirstByteOfAReplyKillsTheConnection(t *testing.T) {
	whole := "$3\r\nabc\r\n"
	replies := map[string]string{
		"a body that is too long": "$3\r\nabcd\r\n", "a length that is none": "$x\r\nabc\r\n",
		"no type of reply": "?3\r\nabc\r\n", "a push within a reply": "*2\r\n$1\r\na\r\n>1\r\n+x\r\n$1\r\nb\r\n",
	}
	for at := range len(whole) {
		replies[fmt.Sprintf("cut after %d bytes", at)] = whole[:at]
	}
	for name, reply := range replies {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				t.f.Handle("INCR", func(c *testkit.FakeConn, _ []string) []byte {
					if len(reply) < len(whole) {
						defer c.CloseAfterReplies()
					}
					c.Push([]byte(reply))
					return nil
				})
				a, b := t.handle(), t.handle()
				a.send("INCR n")
				t.wantErr(a.failure(), pooler.ErrUnknownOutcome)
				if _, err := a.Write([]byte(frames("PING"))); err == nil {
					t.Error("the handle takes another request")
				}
				b.do("PING", "+PONG")
				t.wantRan("1 INCR n", "2 PING")
			})
		})
	}
}

func TestAReplyIsNeverWrittenIntoTheMemoryOfACallerThatHasGone(t *testing.T) {
	for _, large := range []bool{false, true} {
		for _, how := range []string{"deadline", "close"} {
			t.Run(fmt.Sprintf("%s/large=%t", how, large), func(t *testing.T) {
				inBothLabs(t, driver.Config{}, func(t *lab) {
					value := "late"
					if large {
						value = string(bytes.Repeat([]byte("late"), 32<<10))
					}
					release := make(chan struct{})
					t.f.Handle("GET", func(_ *testkit.FakeConn, _ []string) []byte {
						<-release
						return testkit.ReplyBulk(value)
					})
					a := t.handle()
					a.send("GET k")
					mine := bytes.Repeat([]byte{0xAA}, 64<<10)
					done := make(chan int)
					go func() {
						n, _ := a.Read(mine)
						done <- n
					}()
					synctest.Wait()
					if how == "close" {
						_ = a.Close()
					} else {
						_ = a.SetReadDeadline(time.Now())
					}
					if n := <-done; n != 0 {
						t.Fatalf("read %d bytes", n)
					}
					close(release)
					synctest.Wait()
					if !bytes.Equal(mine, bytes.Repeat([]byte{0xAA}, len(mine))) {
						t.Error("the caller's memory has changed after its Read returned")
					}
					if how == "deadline" { // the handle goes on: the reply is still its own
						_ = a.SetReadDeadline(time.Time{})
						got := make([]byte, len(testkit.ReplyBulk(value)))
						if _, err := io.ReadFull(a, got); err != nil || string(got) != string(testkit.ReplyBulk(value)) {
							t.Errorf("the late reply: %d bytes, %v", len(got), err)
						}
					}
				})
			})
		}
	}
}

// go-redis looks at the socket alone for more, where it would be no longer.
func TestPushesThatComeWithAReplyAreReadWithIt(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		const both = "$1\r\nv\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
		t.f.Handle("GET", func(*testkit.FakeConn, []string) []byte { return []byte(both) })
		a := t.handle()
		a.do("CLIENT TRACKING ON", "+OK")
		for range 2 {
			a.send("GET k")
			buf := make([]byte, 1<<10)
			if n, err := a.Conn.Read(buf); err != nil || string(buf[:n]) != both {
				t.Errorf("%q, %v", buf[:n], err)
			}
		}
	})
}

// A reply may have values inside each other as deep as a script's may, and is no reason to
// close the connection that others share.
func TestADeepReplyIsAReply(t *testing.T) {
	const depth = 8000
	bothWays(t, func(t *testing.T, shared int) {
		inLab(t, driver.Config{Pool: pooler.Config{SharedConns: shared}}, func(t *lab) {
			t.f.Handle("EVAL", func(*testkit.FakeConn, []string) []byte { return []byte(strings.Repeat("*1\r\n", depth) + ":7\r\n") })
			rdb := t.client()
			for range 3 {
				v, err := rdb.Eval(t.Context(), "return deep", nil).Result()
				if err != nil {
					t.Fatal(err)
				}
				for range depth {
					v = v.([]any)[0]
				}
				if v != int64(7) {
					t.Errorf("%v inside", v)
				}
			}
			if s := t.stats(); s.Dials != 1 || s.Closes[pooler.CloseProtocol] != 0 {
				t.Errorf("%d dials, closes %v", s.Dials, s.Closes)
			}
		})
	})
}
