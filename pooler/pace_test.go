package pooler_test

import (
	"errors"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// by begins a request that is of no use later than after so long.
func (pt *tester) by(left time.Duration) *pending {
	return pt.begin(pooler.Request{Session: pt.plain, Name: "GET", Deadline: time.Now().Add(left), Final: true})
}

// measured is how many exchanges tell what one takes.
const measured = 32

// atAPace has a pool with one connection known that an exchange takes 100 ms, by a line that
// somebody waits in still. It returns the connection, which is lent, and who waits.
func atAPace(pt *tester) (*pooler.Conn, *pending) {
	return inLine(pt, func(*pooler.Conn) { pt.sleep(100 * time.Millisecond) })
}

// inLine has so many use the connection while others wait.
func inLine(pt *tester, use func(*pooler.Conn)) (*pooler.Conn, *pending) {
	c, waits := pt.get(pt.plain), pt.wait(pt.plain)
	for range measured {
		next := pt.wait(pt.plain)
		use(c)
		pt.put(c)
		c, waits = waits.wantConn(), next
	}
	return c, waits
}

// What an exchange takes is known as well where its caller has left: of a server that has become
// slow nothing is answered in time.
func TestWhatAnAbandonedExchangeTakesIsKnown(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		pt.fake.Handle("SLOW", func(*testkit.FakeConn, []string) []byte {
			time.Sleep(100 * time.Millisecond)
			return testkit.ReplyInt(1)
		})
		c, waits := pt.get(pt.plain), pt.wait(pt.plain)
		for range measured {
			next := pt.wait(pt.plain)
			pt.send(c, "SLOW")
			pt.sleep(10 * time.Millisecond)
			pt.abandon(c)
			pt.sleep(90 * time.Millisecond)
			c, waits = waits.wantConn(), next
		}
		late, patient := pt.by(90*time.Millisecond), pt.wait(pt.plain)
		pt.put(c)
		pt.put(waits.wantConn())
		c = patient.wantConn()
		late.wantWaiting()
		pt.put(c)
		pt.put(late.wantConn())
	})
}

// Who waits for a connection and hasn't the time for a reply is passed over as long as others
// wait who have: in the order of their arrival all would be sent in vain in a steady overload.
func TestWhoHasNoTimeForAReplyIsPassedOverWhileOthersHave(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c, first := atAPace(pt)
		less, more := pt.by(80*time.Millisecond), pt.by(90*time.Millisecond)
		enough, patient := pt.by(120*time.Millisecond), pt.wait(pt.plain)
		pt.put(c)
		c = first.wantConn()
		pt.put(c)
		c = enough.wantConn()
		pt.put(c)
		c = patient.wantConn()
		less.wantWaiting()
		pt.put(c)
		c = more.wantConn() // nobody else is there, and it has most
		pt.put(c)
		pt.put(less.wantConn())
		if s := pt.pool.Stats(); s.Waiting != 0 {
			t.Errorf("%d wait", s.Waiting)
		}
	})
}

// One of so many that are served is one that was passed over: nothing else would tell that
// there are quicker exchanges than those that were measured, which would be passed over for ever.
func TestQuickExchangesAreNotPassedOverForEver(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c, waits := atAPace(pt)
		for range measured - 1 {
			next := pt.wait(pt.plain)
			pt.sleep(100 * time.Millisecond)
			pt.put(c)
			c, waits = waits.wantConn(), next
		}
		pt.sleep(100 * time.Millisecond)
		quick, patient := pt.by(50*time.Millisecond), pt.wait(pt.plain)
		gone := errors.New("gone home")
		waits.cancel(gone)
		waits.wantErr(gone)
		pt.put(c)
		c = quick.wantConn()
		patient.wantWaiting()
		pt.put(c)
		pt.put(patient.wantConn())
	})
}

// What slow commands take is nothing that a quick one needs.
func TestNobodyIsPassedOverForWhatOtherCommandsTake(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c, first := atAPace(pt)
		quick := pt.begin(pooler.Request{Session: pt.plain, Name: "PING", Deadline: time.Now().Add(50 * time.Millisecond), Final: true})
		slow, patient := pt.by(50*time.Millisecond), pt.wait(pt.plain)
		pt.put(c)
		pt.put(first.wantConn())
		pt.put(quick.wantConn())
		c = patient.wantConn()
		slow.wantWaiting()
		pt.put(c)
		pt.put(slow.wantConn())
	})
}

func TestWhoIsPassedOverIsToldAtItsDeadline(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c, first := atAPace(pt)
		late, patient := pt.by(80*time.Millisecond), pt.wait(pt.plain)
		pt.put(c)
		c = first.wantConn()
		pt.put(c)
		c = patient.wantConn()
		pt.sleep(80 * time.Millisecond)
		late.wantErr(pooler.ErrWaitTimeout)
		pt.put(c)
	})
}

// All others are served in their order: whose deadline isn't that of the reply, and who blocks
// on purpose; and all are where a new line begins.
func TestNobodyElseIsPassedOver(t *testing.T) {
	for name, of := range map[string]func(r *pooler.Request){
		"a deadline of the wait": func(r *pooler.Request) { r.Final = false },
		"a command that blocks":  func(r *pooler.Request) { r.Blocking = true },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{MaxOpenConns: 1, SharedConns: -1}, func(pt *tester) {
				c, first := atAPace(pt)
				r := pooler.Request{Session: pt.plain, Name: "GET", Deadline: time.Now().Add(50 * time.Millisecond), Final: true}
				of(&r)
				hasty, patient := pt.begin(r), pt.wait(pt.plain)
				pt.put(c)
				pt.put(first.wantConn())
				pt.put(hasty.wantConn())
				pt.put(patient.wantConn())
			})
		})
	}
	// Of those who keep a connection, as a WATCH does, and of single ones that take longer than
	// others nothing is concluded.
	for name, use := range map[string]func(pt *tester, n int, c *pooler.Conn){
		"kept connections": func(pt *tester, _ int, c *pooler.Conn) {
			pt.pool.Pin(c, "watch")
			pt.sleep(100 * time.Millisecond)
			pt.pool.Pin(c, "")
		},
		"one quick exchange in 32": func(pt *tester, n int, _ *pooler.Conn) {
			if n != 20 {
				pt.sleep(100 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
				n := 0
				c, first := inLine(pt, func(c *pooler.Conn) { n++; use(pt, n, c) })
				hasty, patient := pt.by(50*time.Millisecond), pt.wait(pt.plain)
				pt.put(c)
				pt.put(first.wantConn())
				pt.put(hasty.wantConn())
				pt.put(patient.wantConn())
			})
		})
	}
	t.Run("a new line", func(t *testing.T) {
		bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
			c, first := atAPace(pt)
			pt.put(c)
			pt.put(first.wantConn())
			c = pt.get(pt.plain)
			hasty, patient := pt.by(50*time.Millisecond), pt.wait(pt.plain)
			pt.put(c)
			pt.put(hasty.wantConn())
			pt.put(patient.wantConn())
		})
	})
}
