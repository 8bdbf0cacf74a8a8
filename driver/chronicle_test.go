package driver

import (
	"errors"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// However many dials fail, an outage's beginning and what was before it are remembered.
func TestWhatHasHappenedIsRemembered(t *testing.T) {
	var c chronicle
	now := time.Unix(0, 0)
	note := func(ev pooler.Event) {
		now = now.Add(time.Second)
		ev.Time = now
		c.note(ev)
	}
	refused := errors.New("refused")
	note(pooler.Event{Kind: pooler.EventDial})
	note(pooler.Event{Kind: pooler.EventPin, Pin: "watch"})
	note(pooler.Event{Kind: pooler.EventState, State: pooler.StateDown, Err: refused})
	for range 1000 {
		note(pooler.Event{Kind: pooler.EventDial, Err: refused})
		note(pooler.Event{Kind: pooler.EventClose, Reason: pooler.ClosePeer})
	}
	note(pooler.Event{Kind: pooler.EventClose, Reason: pooler.CloseRead})
	note(pooler.Event{Kind: pooler.EventState, State: pooler.StateUp})
	note(pooler.Event{Kind: pooler.EventDial})
	type entry struct {
		kind        pooler.EventKind
		first, last int64
		times       int
	}
	want := []entry{
		{pooler.EventDial, 1, 1, 1},
		{pooler.EventState, 3, 3, 1},
		{pooler.EventDial, 4, 2002, 1000},
		{pooler.EventClose, 5, 2003, 1000},
		{pooler.EventClose, 2004, 2004, 1},
		{pooler.EventState, 2005, 2005, 1},
		{pooler.EventDial, 2006, 2006, 1},
	}
	all := c.last()
	if len(all) != len(want) {
		t.Fatalf("%d entries, want %d: %v", len(all), len(want), all)
	}
	for i, h := range all {
		if got := (entry{h.Kind, h.First.Unix(), h.Time.Unix(), h.Times}); got != want[i] {
			t.Errorf("entry %d: %+v, want %+v", i, got, want[i])
		}
	}

	for range 100 {
		note(pooler.Event{Kind: pooler.EventState, State: pooler.StateDown})
	}
	if all := c.last(); len(all) != maxHappenings || all[len(all)-1].Time != now {
		t.Errorf("%d entries, the last of %v; want %d, of %v", len(all), all[len(all)-1].Time, maxHappenings, now)
	}
}
