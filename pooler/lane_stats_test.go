package pooler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/pooler"
)

// wantLaneStats says what is under way on each shared connection.
func (pt *tester) wantLaneStats(want ...pooler.LaneStats) {
	pt.Helper()
	pt.settle()
	s := pt.pool.Stats()
	if diff := cmp.Diff(want, s.LaneStats); diff != "" || s.Lanes != len(want) {
		pt.Fatalf("%d shared connections (-want +got):\n%s", s.Lanes, diff)
	}
}

// What is under way on a shared connection is told: how much, for how long at least, and
// for how long nothing was heard.
func TestStatsTellWhatIsUnderWayOnEachLane(t *testing.T) {
	byHand(t, pooler.Config{SilenceAfter: 10 * time.Second, SharedConns: 1}, 1<<10, func(pt *tester, h *hand) {
		pt.wantLaneStats()
		sh := pt.share(pt.plain)
		pt.wantLaneStats(pooler.LaneStats{Conn: 1})
		a := pt.ride(sh, ask("ECHO", "a"))
		pt.sleep(time.Second)
		b := pt.ride(sh, ask("ECHO", "b"))
		pt.wantLaneStats(pooler.LaneStats{Conn: 1, InFlight: 2, Oldest: time.Second, Silence: time.Second})
		pt.sleep(2 * time.Second)
		h.wire(0).hear(a, b)
		h.wire(0).say(bulk("a"))
		// The second one has begun since the last look: that is all that is known.
		pt.wantLaneStats(pooler.LaneStats{Conn: 1, InFlight: 1})
		pt.sleep(9 * time.Second)
		since := 9*time.Second - 25*time.Millisecond // the next one
		pt.wantLaneStats(pooler.LaneStats{Conn: 1, InFlight: 1, Oldest: since, Silence: since})
		h.wire(0).say(bulk("b"))
		b.wantReply(bulk("b"))
		pt.wantLaneStats(pooler.LaneStats{Conn: 1})
	})
}

// So is what can't be written, and who waits for room, where the server reads nothing.
func TestStatsTellWhatIsUnwrittenOnALane(t *testing.T) {
	byHand(t, pooler.Config{SilenceAfter: time.Hour, SharedConns: 1}, 16, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		a := pt.ride(sh, ask("ECHO", strings.Repeat("a", 100)))
		b := pt.ride(sh, ask("ECHO", "b"))
		c := pt.submitting(sh, ask("ECHO", strings.Repeat("c", 1<<20)))
		pt.wantLaneStats(pooler.LaneStats{Conn: 1, InFlight: 2, Unwritten: len(b.x.Request), Entering: 1})
		h.wire(0).hear(a, b)
		h.wire(0).hear(c)
		c.wantSubmitted()
		c.receive()
		d := pt.submitting(sh, ask("ECHO", "d"))
		h.wire(0).hear(d)
		d.rider.Close()
		pt.wantLaneStats(pooler.LaneStats{Conn: 1, InFlight: 4, Forsaken: 1})
		h.wire(0).say(bulk("") + bulk("") + bulk("") + bulk(""))
		pt.wantLaneStats(pooler.LaneStats{Conn: 1})
	})
}

// A lane that is given back is told from one that takes requests.
func TestStatsTellThatALaneYields(t *testing.T) {
	cfg := pooler.Config{SilenceAfter: time.Hour, SharedConns: 1, ConnMaxLifetime: 2 * time.Second, ConnMaxLifetimeJitter: -1, HealthCheckInterval: time.Second}
	byHand(t, cfg, 1<<10, func(pt *tester, h *hand) {
		r := pt.ride(pt.share(pt.plain), ask("ECHO", "r"))
		pt.sleep(4 * time.Second)
		pt.wantLaneStats(pooler.LaneStats{Conn: 1, InFlight: 2, Oldest: 4 * time.Second, Silence: 4 * time.Second, Yielding: true}) // with its last PING
		h.wire(0).hear(r)
		h.wire(0).say(bulk("r"))
		h.wire(0).drain()
		r.wantReply(bulk("r"))
		pt.wantLaneStats()
	})
}
