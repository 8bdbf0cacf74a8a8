package pooler

import (
	"fmt"
	"testing"
	"time"
)

// Names may be any, and any number.
func TestOfNoMoreThanSoManyCommandsItIsKnownWhatTheyTake(t *testing.T) {
	var s paces
	for i := range maxPaces + 1 {
		for range paceOf {
			s.note(fmt.Sprint(i), time.Second)
		}
	}
	for i, short := range map[int]bool{0: true, maxPaces - 1: true, maxPaces: false} {
		if got := s.isTooShort(time.Second/2, fmt.Sprint(i)); got != short {
			t.Errorf("half of the time is too short for command %d: %v, want %v", i, got, short)
		}
	}
}
