package gather

import "time"

// A server is nearby if a flight takes no longer than that, besides the work for all commands
// that are under way. Of flights to one that is far there are so many at most, however long
// they stand still.
const (
	nearby      = 200 * time.Microsecond
	workForEach = 1500 * time.Nanosecond // command, here and at the server
	mostFar     = 64
)

// pace is how long the flights of a line have taken of late. Those to a server that is far wait
// for the network, not for a processor: whoever waited for one of them to land would be slower,
// and no other caller faster. The quickest of several tells, since what else the machine does
// holds others up.
type pace struct {
	far      bool
	flights  int
	quickest time.Duration
}

// note counts a flight that took so long, besides what its commands needed.
func (p *pace) note(took time.Duration) {
	if p.flights == 0 || took < p.quickest {
		p.quickest = took
	}
	if p.flights++; p.flights == telling {
		p.far = p.quickest > nearby
		p.flights = 0
	}
}
