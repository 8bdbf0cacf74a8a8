//go:build race

package pooler_test

// raceEnabled: the detector allocates by itself, and sync.Pool forgets on
// purpose.
const raceEnabled = true
