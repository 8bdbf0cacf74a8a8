package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// terminal prints what happens, for those without a browser.
type terminal struct {
	began time.Time

	mu   sync.Mutex
	out  io.Writer
	next float64 // when progress is printed again, in seconds
}

// progressEvery is how often progress is printed, in seconds.
const progressEvery = 5

// note prints a line with its time.
func (t *terminal) note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.printLocked(time.Since(t.began).Seconds(), text)
}

// sample prints a line of progress if it is time for one.
func (t *terminal) sample(at float64, sides []*side, samples map[string]sample) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at < t.next {
		return
	}
	t.next = at + progressEvery - sampleEvery.Seconds()/2
	var parts []string
	for _, s := range sides {
		now := samples[s.name]
		parts = append(parts, fmt.Sprintf("%s %5.0f/s p99 %6.1f ms, %d failed so far", s.name, now.OK, now.P99, sum(now.Totals.Failed)))
	}
	t.printLocked(at, strings.Join(parts, " | "))
}

func (t *terminal) printLocked(at float64, text string) {
	fmt.Fprintf(t.out, "%7.1f s  %s\n", at, text)
}
