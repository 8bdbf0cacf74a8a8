package guard_test

import (
	"errors"
	"runtime"
	"testing"

	"github.com/everpool/everpool/internal/guard"
)

func TestIsNilFindsNilPointersInInterfaces(t *testing.T) {
	var none *int
	for v, want := range map[any]bool{none: true, new(int): false, 0: false, "": false} {
		if guard.IsNil(v) != want {
			t.Errorf("%T %v: %v", v, v, !want)
		}
	}
	if !guard.IsNil(nil) {
		t.Error("nil isn't nil")
	}
}

func recovered(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

func TestAPanicShowsNoValueButTheRuntimes(t *testing.T) {
	for _, v := range []any{"hunter2", errors.New("hunter2")} {
		if text, want := guard.PanicText(v), map[bool]string{true: "string", false: "*errors.errorString"}[v == "hunter2"]; text != want {
			t.Errorf("%q; want %q", text, want)
		}
		if err := guard.PanicError("reading", v); err.Error() != "reading has panicked with a "+guard.PanicText(v) {
			t.Error(err)
		}
	}
	var short []int
	v := recovered(func() { short[len(t.Name())]++ })
	var own runtime.Error
	if err := guard.PanicError("reading", v); !errors.As(err, &own) || err.Error() != "reading has panicked: "+guard.PanicText(v) || guard.PanicText(v) != own.Error() {
		t.Errorf("%v, %q", err, guard.PanicText(v))
	}
}
