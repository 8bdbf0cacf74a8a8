package pooler_test

import (
	"errors"
	"testing"

	"github.com/everpool/everpool/pooler"
)

func TestAParkedConnectionMakesRoomWhenEveryConnectionIsKept(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		busy, parked := pt.get(pt.plain), pt.get(pt.plain)
		for _, c := range []*pooler.Conn{busy, parked} {
			pt.pool.Pin(c, "watch")
		}
		parked.Park()
		pt.put(pt.get(pt.plain)) // in its room
		pt.wantCloses(pooler.CloseRoom, 1)
		if parked.Unpark() || !errors.Is(parked.Err(), pooler.ErrClosed) {
			t.Errorf("its holder isn't told: %v", parked.Err())
		}
		if !busy.Unpark() || busy.Err() != nil {
			t.Errorf("the busy one has gone: %v", busy.Err())
		}
		pt.fail(parked)
		pt.put(busy)
	})
}

func TestAParkedConnectionStaysWhileAnotherMayComeBack(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		leased, parked := pt.get(pt.plain), pt.get(pt.plain)
		pt.pool.Pin(parked, "watch")
		parked.Park()
		w := pt.wait(pt.plain)
		pt.put(leased)
		pt.put(w.wantConn())
		if !parked.Unpark() {
			t.Error("it was closed for nothing")
		}
		pt.put(parked)
	})
}

func TestAnUnparkedConnectionIsNeverTaken(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.pool.Pin(c, "watch")
		c.Park()
		if !c.Unpark() {
			t.Fatal("Unpark failed though nobody has taken it")
		}
		w := pt.wait(pt.plain)
		pt.do(c, "PING")
		pt.put(c)
		pt.put(w.wantConn())
	})
}
