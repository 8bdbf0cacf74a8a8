// Package guard is for code that calls what a user has given: a function that may
// panic, or an interface that may hold a nil pointer.
package guard

import (
	"fmt"
	"reflect"
	"runtime"
)

// IsNil reports whether there is nothing in v, or a nil pointer, whose methods would
// panic.
func IsNil(v any) bool {
	r := reflect.ValueOf(v)
	return !r.IsValid() || r.Kind() == reflect.Pointer && r.IsNil()
}

// PanicText is what may be shown of a recovered panic: its value only if it is the
// runtime's, otherwise its type. Others may have in them what nobody should see.
func PanicText(v any) string {
	if err, ok := v.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", v)
}

// PanicError is a recovered panic as an error of what was done, which shows as much
// as [PanicText]. The runtime's errors are wrapped.
func PanicError(doing string, v any) error {
	if err, ok := v.(runtime.Error); ok {
		return fmt.Errorf("%s has panicked: %w", doing, err)
	}
	return fmt.Errorf("%s has panicked with a %T", doing, v)
}
