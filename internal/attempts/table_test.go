package attempts

import "testing"

// Two that find nothing at once both come with a value: the first is kept, for both, and
// takes the place of one.
func TestWhatIsHeldStays(t *testing.T) {
	var all table[int]
	for _, test := range []struct {
		key     string
		v, want int
		ok      bool
	}{{"a", 1, 1, true}, {"a", 2, 1, true}, {"b", 3, 3, true}, {"c", 4, 4, false}, {"b", 5, 3, true}} {
		if held, ok := all.add(test.key, test.v, 2); held != test.want || ok != test.ok {
			t.Errorf("%s: %d, %t; want %d, %t", test.key, held, ok, test.want, test.ok)
		}
	}
	if n := len(all.held()); n != 2 {
		t.Errorf("%d are held", n)
	}
}
