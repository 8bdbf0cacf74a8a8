package callers_test

import (
	"testing"

	"github.com/everpool/everpool/internal/callers"
)

//go:noinline
func caller(f func() bool) bool { return f() }

//go:noinline
func deep(n int, f func() bool) bool {
	if n == 0 {
		return f()
	}
	return deep(n-1, f)
}

// However far away the function is, and also from a function inside it.
func TestAFunctionIsAmongTheCallersWhileItRuns(t *testing.T) {
	const name = "callers_test.caller"
	asked := func() bool { return callers.Include(name) }
	for _, depth := range []int{0, 1, 29, 30, 31, 32, 33, 100} {
		if !caller(func() bool { return deep(depth, asked) }) {
			t.Errorf("%d calls away it isn't", depth)
		}
		if deep(depth, asked) {
			t.Errorf("%d calls deep it is, and doesn't run", depth)
		}
	}
}

func TestAFunctionInsideTheOneThatIsAskedForCounts(t *testing.T) {
	inside := func() bool { return callers.Include("callers_test.TestAFunctionInsideTheOneThatIsAskedForCounts") }
	if !inside() {
		t.Error("it doesn't")
	}
	if callers.Include("callers_test.TestAFunction") {
		t.Error("a function whose name begins like it does")
	}
}
