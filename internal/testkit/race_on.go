//go:build race

package testkit

// Race says whether the race detector is on. It is: it allocates by itself,
// sync.Pool forgets on purpose under it, everything takes several times as long,
// and no more than 8128 goroutines may live at a time.
const Race = true
