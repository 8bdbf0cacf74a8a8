package pooler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// longLines are replies that are, or end with, a line of 200 KB.
func longLines() map[string]string {
	text, digits := strings.Repeat("x", 200_000), strings.Repeat("9", 200_000)
	return map[string]string{
		"status":     "+" + text + "\r\n",
		"error":      "-ERR " + text + "\r\n",
		"big number": "(" + digits + "\r\n",
		"double":     "," + digits + "\r\n",
		"in arrays":  "*2\r\n:1\r\n*1\r\n+" + text + "\r\n",
		"in a map":   "%1\r\n+" + text + "\r\n-" + text + "\r\n",
	}
}

// cuts are where a reply is cut on its way: near its ends, and near the sizes of
// buffers.
func cuts(n int) []int {
	at := []int{1, 2, 3, 7}
	for _, size := range []int{readBuffer, 64 << 10, 128 << 10, n - 2} {
		at = append(at, size-1, size, size+1)
	}
	return at
}

// readBuffer is the size of a connection's read buffer.
const readBuffer = 32 << 10

func TestALongLineComesWholeAndTheOthersOnItsLaneGetTheirs(t *testing.T) {
	for name, line := range longLines() {
		t.Run(name, func(t *testing.T) {
			for _, cut := range cuts(len(line)) {
				byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
					sh := pt.share(pt.plain)
					var rides []*ride
					for _, key := range []string{"before", "long", "after", "last"} {
						rides = append(rides, pt.ride(sh, ask("GET", key)))
					}
					w := h.wire(0)
					w.hear(rides...)
					stream := bulk("before") + line
					at := len(bulk("before")) + cut
					w.say(stream[:at])
					rides[0].wantReply(bulk("before"))
					rides[1].wantWaiting()
					w.say(stream[at:] + bulk("after"))
					rides[1].wantReply(line)
					rides[2].wantReply(bulk("after"))
					w.say(bulk("last"))
					rides[3].wantReply(bulk("last"))
					pt.wantEnds(4, 0, 0)
					pt.wantDials(1)
					pt.wantOpen(1)
				})
			}
		})
	}
}

func TestALongLineComesWholeOnALease(t *testing.T) {
	for name, line := range longLines() {
		t.Run(name, func(t *testing.T) {
			for _, cut := range cuts(len(line)) {
				byHand(t, pooler.Config{}, 0, func(pt *tester, h *hand) {
					c := pt.get(pt.plain)
					w := h.wire(0)
					pt.send(c, "GET", "long")
					pt.send(c, "GET", "after")
					go func() {
						_, _ = w.Write([]byte(line[:cut]))
						time.Sleep(time.Millisecond)
						_, _ = w.Write([]byte(line[cut:] + bulk("after")))
					}()
					for _, want := range []string{line, bulk("after")} {
						if got, err := receive(c, time.Time{}); got != want || err != nil {
							t.Errorf("cut at %d: received %d bytes, %v; want %d", cut, len(got), err, len(want))
						}
					}
					pt.put(c)
					pt.wantIdle(1)
				})
			}
		})
	}
}

// A rider that doesn't fetch its long line, or has left, holds up nobody for good.
func TestALongLineWhoseRiderHasLeftIsDropped(t *testing.T) {
	line := longLines()["status"]
	byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		gone, after := pt.ride(sh, ask("GET", "long")), pt.ride(sh, ask("GET", "after"))
		w := h.wire(0)
		w.hear(gone, after)
		w.say(line[:100_001])
		gone.rider.Close()
		w.say(line[100_001:] + bulk("after"))
		after.wantReply(bulk("after"))
		pt.wantDials(1)
		pt.wantOpen(1)
	})
}
