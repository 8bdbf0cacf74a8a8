package pooler_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/pooler"
)

// of leases a connection for a request of the rider.
func (pt *tester) of(r *pooler.Rider) *pooler.Conn {
	pt.Helper()
	c, err := pt.tryGet(pooler.Request{Session: pt.plain, Rider: r})
	if err != nil {
		pt.Fatal(err)
	}
	return c
}

// ask has a request of the rider ask about what the connection has carried.
func (pt *tester) ask(r *pooler.Rider, about *pooler.Conn) {
	pt.Helper()
	c, err := pt.tryGet(pooler.Request{Session: pt.plain, Rider: r, Want: about})
	if err != nil || c != about {
		pt.Errorf("it was asked on %v (%v), want %v", c, err, about)
		return
	}
	pt.put(c)
}

// Otherwise those who ask, each for as long as the server holds its answer back, would wait
// for each other.
func TestWhileRequestsAskAboutEarlierOnesConnectionsAreLeftToThoseWhoHadThem(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 3}, func(pt *tester) {
		a, b, d := pooler.NewRider(), pooler.NewRider(), pooler.NewRider()
		ofA := pt.of(a)
		pt.put(ofA)
		pt.ask(a, ofA)
		if c := pt.of(b); c != ofA {
			t.Errorf("it got connection %d while %d was idle", c.ID(), ofA.ID())
		}
		pt.put(ofA)
		synctest.Wait()
		if st := pt.pool.Stats(); st.Dials != 2 {
			t.Errorf("%d dials; want one more when another's connection was taken", st.Dials)
		}
		pt.ask(b, ofA)
		own := map[*pooler.Rider]*pooler.Conn{b: ofA}
		for range 3 {
			for _, r := range []*pooler.Rider{a, b, d} {
				c := pt.of(r)
				pt.put(c)
				pt.ask(r, c)
				synctest.Wait()
				own[r] = c
			}
		}
		if own[a] == own[b] || own[b] == own[d] || own[a] == own[d] {
			t.Error("two of three have one connection")
		}
		for _, r := range []*pooler.Rider{d, b, a} {
			c := pt.of(r)
			pt.put(c)
			if c != own[r] {
				t.Errorf("it got connection %d, and had %d", c.ID(), own[r].ID())
			}
		}
		if c := pt.of(pooler.NewRider()); c != own[d] {
			t.Errorf("a fourth got connection %d in a full pool, not the one that was left for longest", c.ID())
		} else {
			pt.put(c)
		}
		if st := pt.pool.Stats(); st.Dials != 3 {
			t.Errorf("%d dials in a pool of 3", st.Dials)
		}
		time.Sleep(time.Second + 10*time.Millisecond)
		synctest.Wait()
		c := pt.of(pooler.NewRider())
		pt.put(c)
		if again := pt.of(a); again != c {
			t.Error("nobody asks any more, and the connection that was used last isn't taken")
		} else {
			pt.put(again)
		}
	})
}

// What is left to a rider is good enough where there is no other, and nothing waits for a dial.
func TestAConnectionThatIsLeftToAnotherIsTakenWhereNoneCanBeOpened(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 3}, func(pt *tester) {
		a, b := pooler.NewRider(), pooler.NewRider()
		ofA := pt.of(a)
		pt.put(ofA)
		pt.ask(a, ofA)
		pt.fake.HangDials(true)
		for range 3 {
			if c := pt.of(b); c != ofA {
				t.Errorf("it got connection %d, want %d", c.ID(), ofA.ID())
			} else {
				pt.put(c)
			}
			pt.ask(a, ofA)
		}
		pt.fake.HangDials(false)
	})
}

// Nor does another lane take what is left to somebody.
func TestAnotherLaneTakesNoConnectionThatIsLeftToARider(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 4, SharedConns: 2}, func(pt *tester) {
		sh := pt.share(pt.plain)
		a := pooler.NewRider()
		ofA := pt.of(a)
		pt.put(ofA)
		pt.ask(a, ofA)
		pt.load(sh, 2)
		pt.wantLanes(2)
		pt.ask(a, ofA)
		pt.wantLanes(2) // none of them is on that connection: it had to end for the question
	})
}

// Nor does a request that has no rider wait for one, in a full pool.
func TestARequestWithoutARiderTakesWhatIsLeftToOthersWhereNothingElseIs(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		a := pooler.NewRider()
		ofA := pt.of(a)
		pt.put(ofA)
		pt.ask(a, ofA)
		pt.put(pt.get(pt.plain))
	})
}
