package testkit_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/testkit"
)

var memAddr = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 6379}

func pair(limit int) (client, server *testkit.MemConn) {
	return testkit.Pair(limit, memAddr, memAddr)
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error %v, want %v", what, err, want)
	}
}

func TestMemConnDeadlineEndsABlockedRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := pair(0)
		start := time.Now()
		if err := c.SetReadDeadline(start.Add(3 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Read(make([]byte, 1))
		wantErr(t, "read", err, os.ErrDeadlineExceeded)
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			t.Fatalf("%v isn't a net.Error timeout", err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func TestMemConnDeadlineThatIsMovedEndsABlockedRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := pair(0)
		result := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			result <- err
		}()
		synctest.Wait()
		start := time.Now()
		_ = c.SetDeadline(start.Add(time.Hour))
		synctest.Wait()
		_ = c.SetDeadline(start.Add(time.Second))
		wantErr(t, "read", <-result, os.ErrDeadlineExceeded)
		if took := time.Since(start); took != time.Second {
			t.Fatalf("took %v", took)
		}
		_ = c.SetDeadline(time.Time{})
	})
}

func TestMemConnWriteBlocksWhenTheBufferIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(4)
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := c.Write([]byte("123456"))
		wantErr(t, "write", err, os.ErrDeadlineExceeded)
		if n != 4 {
			t.Fatalf("wrote %d bytes", n)
		}
		_ = c.SetWriteDeadline(time.Time{})
		done := make(chan error, 1)
		go func() {
			_, err := c.Write([]byte("56"))
			done <- err
		}()
		got := make([]byte, 6)
		if _, err := io.ReadFull(s, got); err != nil || string(got) != "123456" {
			t.Fatalf("read %q, %v", got, err)
		}
		wantErr(t, "write", <-done, nil)
	})
}

func TestMemConnConcurrentWritesDoNotInterleave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(3)
		for _, b := range []string{"aaaaaaaaaa", "bbbbbbbbbb"} {
			go func() { _, _ = c.Write([]byte(b)) }()
		}
		got := make([]byte, 20)
		if _, err := io.ReadFull(s, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:10], bytes.Repeat(got[:1], 10)) {
			t.Fatalf("interleaved: %q", got)
		}
	})
}

func TestMemConnCloseUnblocksAndThePeerReadsEOF(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(0)
		result := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			result <- err
		}()
		synctest.Wait()
		_, _ = c.Write([]byte("bye"))
		_ = c.Close()
		wantErr(t, "blocked read", <-result, net.ErrClosed)
		b, err := io.ReadAll(s)
		if string(b) != "bye" || err != nil {
			t.Fatalf("peer read %q, %v", b, err)
		}
		_, err = s.Write([]byte("x"))
		wantErr(t, "first write after the peer's close", err, nil)
		_, err = s.Write([]byte("x"))
		wantErr(t, "second write", err, syscall.EPIPE)
		wantErr(t, "second close", c.Close(), net.ErrClosed)
	})
}

func TestMemConnCloseWithUnreadBytesResets(t *testing.T) {
	c, s := pair(0)
	_, _ = s.Write([]byte("unread"))
	_, _ = c.Write([]byte("last"))
	_ = c.Close()
	b, err := io.ReadAll(s)
	if string(b) != "last" {
		t.Fatalf("read %q", b)
	}
	wantErr(t, "read", err, syscall.ECONNRESET)
	_, err = s.Write([]byte("x"))
	wantErr(t, "write", err, syscall.ECONNRESET)
}

func TestMemConnResetReachesBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(0)
		result := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			result <- err
		}()
		synctest.Wait()
		s.Reset()
		wantErr(t, "blocked read", <-result, syscall.ECONNRESET)
		for _, end := range []*testkit.MemConn{c, s} {
			_, err := end.Write([]byte("x"))
			wantErr(t, "write", err, syscall.ECONNRESET)
			_, err = end.Read(make([]byte, 1))
			wantErr(t, "read", err, syscall.ECONNRESET)
			wantErr(t, "close", end.Close(), nil)
		}
	})
}

func TestMemConnHalfCloseKeepsTheOtherDirection(t *testing.T) {
	c, s := pair(0)
	_, _ = c.Write([]byte("ask"))
	_ = c.CloseWrite()
	_, err := c.Write([]byte("x"))
	wantErr(t, "write after CloseWrite", err, syscall.EPIPE)
	if b, err := io.ReadAll(s); string(b) != "ask" || err != nil {
		t.Fatalf("server read %q, %v", b, err)
	}
	_, _ = s.Write([]byte("answer"))
	_ = s.Close()
	if b, err := io.ReadAll(c); string(b) != "answer" || err != nil {
		t.Fatalf("client read %q, %v", b, err)
	}
}

func TestMemConnPassedDeadlineWinsOverBufferedBytes(t *testing.T) {
	c, s := pair(0)
	_, _ = s.Write([]byte("x"))
	_ = c.SetReadDeadline(time.Unix(1, 0))
	_, err := c.Read(make([]byte, 1))
	wantErr(t, "read", err, os.ErrDeadlineExceeded)
	_ = c.SetReadDeadline(time.Time{})
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
}
