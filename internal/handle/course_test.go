package handle

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/internal/wiring"
)

// A push stands before the first reply of a batch or nowhere, and says what hasn't been
// said yet.
func TestTheCourseIsToldWhereNoReplyHasBegun(t *testing.T) {
	listened := &Client{Courses: &Courses{}}
	listened.Courses.all.Store(&[]*listener{{func(context.Context, wiring.Course) {}}})
	const waited, again = ">4\r\n+everpool:course\r\n:7\r\n:0\r\n:0\r\n", ">4\r\n+everpool:course\r\n:0\r\n:2\r\n:1\r\n"
	for _, c := range []struct {
		name   string
		change func(h *handle)
		want   string // of what is read next
	}{
		{"nothing of it was read", func(*handle) {}, waited + "+LOCAL\r\n"},
		{"what it went through before was told", func(h *handle) {
			h.tellCourseLocked()
			h.b.outRead = len(waited)
			h.b.moves, h.b.resent = 2, true
		}, again + "+LOCAL\r\n"},
		{"the push before was read in part", func(h *handle) {
			h.tellCourseLocked()
			h.b.outRead = 3
			h.b.moves = 2
		}, waited[3:] + "+LOCAL\r\n"},
		{"a reply of a connection was read", func(h *handle) { h.b.got = true }, "+LOCAL\r\n"},
		{"a reply of the handle's was read in part", func(h *handle) { h.b.outRead = 2 }, "OCAL\r\n"},
		{"the handle has ended", func(h *handle) { h.err = errors.New("ended") }, "+LOCAL\r\n"},
		{"nobody listens", func(h *handle) { h.client = &Client{Courses: &Courses{}} }, "+LOCAL\r\n"},
		{"nobody can listen", func(h *handle) { h.client = &Client{} }, "+LOCAL\r\n"},
		{"its caller reads RESP2", func(h *handle) { h.shake.in = &session.State{} }, "+LOCAL\r\n"},
	} {
		h := &handle{seat: seat{client: listened}, shake: handshake{in: &session.State{RESP3: true}}}
		h.b.out, h.b.waited = []byte("+LOCAL\r\n"), 7*time.Nanosecond
		c.change(h)
		h.tellCourseLocked()
		if got := string(h.b.out[h.b.outRead:]); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
