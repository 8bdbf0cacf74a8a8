//go:build race

package hooks_test

// raceEnabled: the detector allocates by itself, and sync.Pool forgets on
// purpose.
const raceEnabled = true
