//go:build !race

package testkit

// Race says whether the race detector is on: it isn't.
const Race = false
