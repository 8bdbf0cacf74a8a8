package main

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// journal is what the page and the report show: all that has happened, in order. It is
// written by the run and read by any number of pages, each at its own pace.
type journal struct {
	began time.Time

	mu      sync.Mutex
	entries []json.RawMessage
	first   int           // number of entries[0]; older ones are forgotten
	changed chan struct{} // closed when there is more
	ended   bool
}

// remembered is how many entries are kept, an hour's at least.
const remembered = 10_000

func newJournal(began time.Time) *journal {
	return &journal{began: began, changed: make(chan struct{})}
}

// The entries, by kind. Times are seconds since the beginning.
type (
	sampleEntry struct {
		Kind    string            `json:"kind"` // sample
		At      float64           `json:"at"`
		Drivers map[string]sample `json:"drivers"`
	}
	faultEntry struct {
		Kind   string  `json:"kind"` // fault, or faultOver
		At     float64 `json:"at"`
		Fault  string  `json:"fault"`
		By     string  `json:"by"`     // schedule or button
		Length float64 `json:"length"` // seconds; 0: over at once
		Error  string  `json:"error,omitempty"`
	}
	endEntry struct {
		Kind    string  `json:"kind"` // end
		At      float64 `json:"at"`
		Verdict verdict `json:"verdict"`
	}
)

// since is the time of an entry that is made now.
func (j *journal) since() float64 { return time.Since(j.began).Seconds() }

// add appends an entry.
func (j *journal) add(entry any) {
	text, err := json.Marshal(entry)
	if err != nil {
		panic(fmt.Sprintf("testbench: an entry that isn't JSON: %v", err)) // they all are
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, text)
	if len(j.entries) > remembered {
		n := len(j.entries) - remembered/2
		j.entries = append([]json.RawMessage(nil), j.entries[n:]...)
		j.first += n
	}
	j.wakeLocked()
}

// end says that nothing more comes.
func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended = true
	j.wakeLocked()
}

func (j *journal) wakeLocked() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// from returns the entries from number n on, or from the oldest that is kept; the number
// of the one after them; and what is closed when there is more, nil if nothing more comes.
func (j *journal) from(n int) (entries []json.RawMessage, next int, more <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	next = j.first + len(j.entries)
	entries = j.entries[min(max(n-j.first, 0), len(j.entries)):]
	if !j.ended {
		more = j.changed
	}
	return entries, next, more
}
