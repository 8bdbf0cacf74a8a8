package resp_test

import (
	"strconv"
	"syscall"
	"testing"

	"github.com/everpool/everpool/internal/resp"
)

// The buffer is a mapping of which only the pages with headers are ever touched:
// the scanner steps over bodies.
func TestSpansEndWhereOffsetsWouldNotFit(t *testing.T) {
	if strconv.IntSize == 32 {
		t.Skip("no room for the buffer in 32 bits")
	}
	const body = 400 << 20
	buf, err := syscall.Mmap(-1, 0, 5*body, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		t.Skip("no address space: ", err)
	}
	defer func() {
		if err := syscall.Munmap(buf); err != nil {
			t.Error(err)
		}
	}()
	length := copy(buf, "*5\r\n$3\r\nset\r\n")
	for _, n := range []int{body, body, body, 1} {
		length += copy(buf[length:], "$"+strconv.Itoa(n)+"\r\n")
		length += n
		length += copy(buf[length:], "\r\n")
	}

	var s resp.RequestScanner
	n, done, err := s.Next(buf)
	if n != length || !done || err != nil {
		t.Fatalf("Next = %d, %v, %v, want %d, true, nil", n, done, err, length)
	}
	if s.NumArgs() != 5 || s.Seen() != 3 {
		t.Errorf("%d of %d arguments seen, want 3 of 5", s.Seen(), s.NumArgs())
	}
	if last := s.Arg(2); last.End-last.Start != body || last.End > 1<<30 {
		t.Errorf("last recorded argument at %v", last)
	}
}
