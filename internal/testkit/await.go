package testkit

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// Await asks until cond holds: real servers give no sign to wait for. What
// completes the sentence "it never came about that": after a minute, many times
// what anything takes on a busy machine, the test fails with it, and with what
// all goroutines are doing. For the test's own goroutine, and not in bubbles.
func Await(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	if err := AwaitErr(what, cond); err != nil {
		buf := make([]byte, 1<<20)
		tb.Fatalf("%v\n%s", err, buf[:min(runtime.Stack(buf, true), 20_000)])
	}
}

// AwaitErr is [Await] for goroutines that aren't the test's: it returns the
// failure.
func AwaitErr(what string, cond func() bool) error {
	const patience, pause = time.Minute, 2 * time.Millisecond
	for by := time.Now().Add(patience); !cond(); time.Sleep(pause) {
		if time.Now().After(by) {
			return fmt.Errorf("it never came about that %s", what)
		}
	}
	return nil
}
