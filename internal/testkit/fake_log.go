package testkit

import (
	"slices"
	"strconv"
	"strings"
)

// LogEntry is one command that the fake has executed.
type LogEntry struct {
	ConnID int64
	Args   []string
}

// String returns the entry as "conn-id NAME args".
func (e LogEntry) String() string {
	return strconv.FormatInt(e.ConnID, 10) + " " + strings.ToUpper(e.Args[0]) + strings.Join(append([]string{""}, e.Args[1:]...), " ")
}

// Log returns every command that was executed, in order. A command in a
// transaction is logged when EXEC executes it, after EXEC itself.
func (f *Fake) Log() []LogEntry {
	return locked(&f.mu, func() []LogEntry { return slices.Clone(f.log) })
}

// Commands returns the log as lines "conn-id NAME args".
func (f *Fake) Commands() []string {
	var lines []string
	for _, e := range f.Log() {
		lines = append(lines, e.String())
	}
	return lines
}

// Count returns how often a command was executed. name is one word, or
// several, which must then be its first words, in any case: "CLIENT KILL",
// "INCR counter".
func (f *Fake) Count(name string) int {
	want := strings.Fields(name)
	n := 0
	for _, e := range f.Log() {
		if len(e.Args) >= len(want) && slices.EqualFunc(want, e.Args[:len(want)], strings.EqualFold) {
			n++
		}
	}
	return n
}

// ResetLog forgets the log.
func (f *Fake) ResetLog() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = nil
}
