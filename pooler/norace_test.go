//go:build !race

package pooler_test

const raceEnabled = false
