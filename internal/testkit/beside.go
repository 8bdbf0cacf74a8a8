package testkit

import (
	"flag"
	"os"
	"runtime"
	"testing"
)

// How many tests of a process run beside each other: of those that wait for most of their
// time half as many again as there are processors; of those that work half as many, so that
// what waits for a server, or for a deadline, beside them isn't late.
var (
	waiting = make(chan struct{}, max(2, 3*runtime.GOMAXPROCS(0)/2))
	working = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
)

// Waits has a test run beside others, as t.Parallel does; it waits for most of its time:
// for servers, elections, timeouts. With subtests that run beside others it would wait for
// them, and they for it.
func Waits(t *testing.T) {
	t.Helper()
	beside(t, waiting)
}

// Works is [Waits] for a test that keeps a processor busy.
func Works(t *testing.T) {
	t.Helper()
	beside(t, working)
}

func beside(t *testing.T, places chan struct{}) {
	t.Helper()
	t.Parallel()
	places <- struct{}{}
	t.Cleanup(func() { <-places })
}

// ManyBeside leaves it to [Waits] and [Works] how many tests run at a time, unless
// -parallel says so. It is for TestMain.
func ManyBeside() {
	flag.Parse()
	manyBeside(flag.CommandLine)
}

func manyBeside(flags *flag.FlagSet) {
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flags.Set("test.parallel", "1000") // the flag is testing's: it exists
	}
}

// EveryWay says whether tests that have many ways to run (server, protocol, way of
// using connections) are to run in all of them, as `make soak` has it with
// EVERPOOL_EVERY_WAY=true, and not only in so many that each value of one meets each value
// of another.
func EveryWay() bool { return os.Getenv("EVERPOOL_EVERY_WAY") == "true" }
