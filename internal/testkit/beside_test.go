package testkit

import (
	"flag"
	"testing"
)

// A test that runs beside others has a place while it runs, and leaves it to the next one.
func TestTestsBesideOthersHaveAPlace(t *testing.T) {
	for name, row := range map[string]struct {
		places chan struct{}
		enter  func(*testing.T)
	}{"waits": {waiting, Waits}, "works": {working, Works}} {
		before := len(row.places)
		t.Run(name, func(t *testing.T) {
			for range 2 * cap(row.places) { // more than there are places
				t.Run("", func(t *testing.T) {
					row.enter(t)
					if len(row.places) <= before {
						t.Error("it has no place")
					}
				})
			}
		})
		if n := len(row.places); n != before {
			t.Errorf("%d places are taken by none", n-before)
		}
	}
}

// How many tests run at a time is for the places to say, unless the user has.
func TestManyBesideLeavesParallelToTheUser(t *testing.T) {
	for _, row := range []struct {
		args []string
		want int
	}{{nil, 1000}, {[]string{"-test.parallel=3"}, 3}} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		n := flags.Int("test.parallel", 2, "")
		if err := flags.Parse(row.args); err != nil {
			t.Fatal(err)
		}
		if manyBeside(flags); *n != row.want {
			t.Errorf("with %v, %d tests run at a time, want %d", row.args, *n, row.want)
		}
	}
}
