package pooler_test

import (
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

func TestNoMoreDialsRunAtATimeThanMaxConcurrentDials(t *testing.T) {
	for limit, want := range map[int]int{0: 16, -1: 16, 3: 3, 1: 1} {
		bubble(t, pooler.Config{MaxOpenConns: 20, MaxConcurrentDials: limit, WaitTimeout: -1}, func(pt *tester) {
			pt.dialer.take(10 * time.Millisecond)
			var line []*pending
			for range 20 {
				line = append(line, pt.wait(pt.plain))
			}
			for _, w := range line {
				defer func() { pt.put(w.conn) }()
				if err := w.await().err; err != nil {
					t.Error(err)
				}
			}
			if most := pt.dialer.peak(); most > want || limit == 0 && most < 5 {
				t.Errorf("MaxConcurrentDials %d: %d dials at a time", limit, most)
			}
		})
	}
}

// Clients share a pool, each with a timeout of its own.
func TestARequestsOwnWaitTimeoutHoldsInThePlaceOfThePools(t *testing.T) {
	const pools = time.Second
	for own, want := range map[time.Duration]time.Duration{
		0:                      pools,
		200 * time.Millisecond: 200 * time.Millisecond,
		3 * time.Second:        3 * time.Second,
		-1:                     time.Minute, // only the deadline
	} {
		bubble(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: pools}, func(pt *tester) {
			c := pt.get(pt.plain)
			w := pt.begin(pooler.Request{Session: pt.plain, WaitTimeout: own, Deadline: time.Now().Add(time.Minute)})
			e := w.await().wantErr(pooler.ErrWaitTimeout)
			if w.took != want || e.Waited != want {
				t.Errorf("WaitTimeout %v: it waited for %v, want %v", own, w.took, want)
			}
			pt.put(c)
		})
	}
}
