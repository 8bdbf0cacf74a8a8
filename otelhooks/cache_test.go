package otelhooks_test

import (
	"sync"
	"testing"

	"github.com/everpool/everpool/otelhooks"
)

func TestACacheMakesOnceAndIsBounded(t *testing.T) {
	made := 0
	c := otelhooks.NewCache(4, func(k int) int { made++; return 2 * k })
	for range 3 {
		for k := range 4 {
			if got := c.Get(k); got != 2*k {
				t.Errorf("%d: %d", k, got)
			}
		}
	}
	if made != 4 || c.Len() != 4 {
		t.Errorf("%d were made and %d are held, want 4", made, c.Len())
	}
	for k := range 100 {
		if got := c.Get(k); got != 2*k || c.Len() > 4 {
			t.Fatalf("%d: %d, and %d are held", k, got, c.Len())
		}
	}
}

// What a full cache has is still found when others are asked for, until they are
// many: then they get in.
func TestAFullCacheKeepsWhatItHas(t *testing.T) {
	made := make(map[int]int)
	c := otelhooks.NewCache(4, func(k int) int { made[k]++; return k })
	for range otelhooks.Patience {
		for k := range 8 { // as many that it has as others
			c.Get(k)
		}
	}
	for k := range 4 {
		if made[k] != 1 {
			t.Errorf("%d was made %d times", k, made[k])
		}
	}
	if want := otelhooks.Patience; made[7] != want {
		t.Errorf("7 was made %d times, want %d", made[7], want)
	}
	clear(made)
	for range 3 {
		for k := 4; k < 8; k++ {
			c.Get(k)
		}
	}
	for k := 4; k < 8; k++ {
		if made[k] != 1 {
			t.Errorf("%d was made %d times, when the first were gone", k, made[k])
		}
	}
}

func TestACacheIsForAll(t *testing.T) {
	c := otelhooks.NewCache(8, func(k int) int { return 2 * k })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for k := range 1000 {
				if got := c.Get(k % 12); got != 2*(k%12) {
					t.Errorf("%d: %d", k%12, got)
				}
			}
		})
	}
	wg.Wait()
}
