package otelhooks_test

import (
	"sync"
	"testing"

	"github.com/everpool/everpool/otelhooks"
)

// What a cache has is found again, whatever else is asked for; beyond its bound things are
// made each time.
func TestACacheMakesOnceAndIsBounded(t *testing.T) {
	made := make(map[int]int)
	get, length := otelhooks.NewCache(4, func(k int) int { made[k]++; return 2 * k })
	for range 3 {
		for k := range 8 {
			if got := get(k); got != 2*k {
				t.Errorf("%d: %d", k, got)
			}
		}
	}
	if made[0] != 1 || made[3] != 1 || made[4] != 3 || length() != 4 {
		t.Errorf("made %v, and %d are held; want the first four once", made, length())
	}
}

func TestACacheIsForAll(t *testing.T) {
	get, length := otelhooks.NewCache(8, func(k int) int { return 2 * k })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for k := range 1000 {
				if got := get(k % 12); got != 2*(k%12) {
					t.Errorf("%d: %d", k%12, got)
				}
			}
		})
	}
	wg.Wait()
	if length() != 8 {
		t.Errorf("%d are held", length())
	}
}
