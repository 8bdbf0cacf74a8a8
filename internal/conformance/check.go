package conformance

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// want returns a function that takes a command's Result() and ends the test
// unless it is v without an error:
//
//	want(w, "bar")(w.rdb.Get(w.ctx, key).Result())
func want[V any](t testing.TB, v V) func(V, error) {
	return func(got V, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("error %v (%T), want %v", err, err, short(v))
		}
		equal(t, got, v)
	}
}

// equal ends the test unless got equals v.
func equal[V any](t testing.TB, got, v V) {
	t.Helper()
	if diff := cmp.Diff(v, got); diff != "" {
		t.Fatalf("mismatch (-want +got):\n%s", short(diff))
	}
}

// ok ends the test if there is an error.
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("error %v (%T), want none", err, err)
	}
}

// wantErr ends the test unless err is target.
func wantErr(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v (%T), want %v", err, err, target)
	}
}

// wantPrefix ends the test unless err is the server's own error with prefix.
func wantPrefix(t testing.TB, err error, prefix string) {
	t.Helper()
	if !redis.HasErrorPrefix(err, prefix) {
		t.Fatalf("error %v (%T), want the server's %s", err, err, prefix)
	}
}

// wantTimeout ends the test unless err says of itself that it is a timeout.
func wantTimeout(t testing.TB, err error) {
	t.Helper()
	if !isTimeout(err) {
		t.Fatalf("error %v (%T), want a timeout", err, err)
	}
}

func isTimeout(err error) bool {
	var te interface{ Timeout() bool }
	return errors.As(err, &te) && te.Timeout()
}

// answer compares a command's result in a goroutine that may not end the test.
func answer(what string, got string, err error, v string) error {
	switch {
	case err != nil:
		return fmt.Errorf("%s: error %w (%T)", what, err, err)
	case got != v:
		return fmt.Errorf("%s: got %q, want %q", what, short(got), short(v))
	}
	return nil
}

// mismatchError says what was wrong, in a goroutine that may not end the test.
type mismatchError string

// Error implements error.
func (e mismatchError) Error() string { return string(e) }

// wrongf is not fmt.Errorf because an error among args may be nil, and %w
// doesn't print that.
func wrongf(format string, args ...any) error { return mismatchError(fmt.Sprintf(format, args...)) }

// each runs f in n goroutines, waits for all of them and ends the test if any
// failed.
func each(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	failed := 0
	for i, err := range errs {
		if err == nil {
			continue
		}
		if failed++; failed <= 5 {
			t.Errorf("goroutine %d: %v", i, err)
		}
	}
	if failed > 0 {
		t.Fatalf("%d of %d goroutines failed", failed, n)
	}
}

// eventually polls a state of the server until it holds. It is for states that
// nobody announces; whatever a reply or a channel can announce is awaited there.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("never saw: %s", what)
		}
	}
}

// receive takes a value from ch, or ends the test after a while.
func receive[V any](w *world, ch <-chan V, what string) V {
	w.Helper()
	select {
	case v, open := <-ch:
		if !open {
			w.Fatalf("channel closed while waiting for %s", what)
		}
		return v
	case <-time.After(20 * time.Second):
		w.Fatalf("never came: %s", what)
	}
	panic("unreachable")
}

// short keeps big values out of the test's log.
func short(v any) string {
	s := fmt.Sprint(v)
	if len(s) > 2000 {
		return s[:2000] + fmt.Sprintf("... (%d bytes)", len(s))
	}
	return s
}
