//go:build !race

package testkit

// Race: there is no race detector.
const Race = false
