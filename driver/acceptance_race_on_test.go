//go:build race

package driver_test

// underRace: the race detector allows 8128 goroutines.
const underRace = true
