package topk

import "testing"

// TestBefore checks the order in which counters are replaced.
func TestBefore(t *testing.T) {
	order := []counter{{count: 4}, {count: 5, err: 3}, {count: 5, err: 2}, {count: 6, err: 6}}
	for i := range order {
		for j := range order {
			if got, want := order[i].before(&order[j]), i < j; got != want {
				t.Errorf("%+v before %+v: %t, want %t", order[i], order[j], got, want)
			}
		}
	}
}
