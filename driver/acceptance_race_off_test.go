//go:build !race

package driver_test

// underRace: there is no race detector.
const underRace = false
