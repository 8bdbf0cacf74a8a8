package testkit_test

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/internal/testkit"
)

// transform returns what comes out of a fault when "0123456789" goes in,
// whichever the direction and however it is chunked.
func transform(t *testing.T, f testkit.ByteFault, chunk int) (string, error) {
	t.Helper()
	c, s := pair(0)
	fc := testkit.WithFaults(c, f)
	defer fc.Close()
	input := "0123456789"
	if f.Dir == testkit.ToClient {
		_, _ = io.WriteString(s, input)
		_ = s.CloseWrite()
		var got []byte
		buf := make([]byte, chunk)
		for {
			n, err := fc.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				return string(got), err
			}
		}
	}
	var err error
	for len(input) > 0 && err == nil {
		n := min(chunk, len(input))
		_, err = io.WriteString(fc, input[:n])
		input = input[n:]
	}
	_ = fc.Close()
	got, _ := io.ReadAll(s)
	return string(got), err
}

func TestByteFaultsAtEveryOffset(t *testing.T) {
	const in = "0123456789"
	for _, dir := range []testkit.Direction{testkit.ToServer, testkit.ToClient} {
		for _, kind := range testkit.FaultKinds {
			if kind == testkit.FaultStall || kind == testkit.FaultBlock {
				continue // have tests of their own
			}
			for at := range len(in) + 1 {
				for _, chunk := range []int{1, 3, len(in)} {
					f := testkit.ByteFault{Kind: kind, Dir: dir, At: int64(at), N: 2, Data: []byte("++")}
					end := min(at+2, len(in))
					want := map[testkit.FaultKind]string{
						testkit.FaultCut:       in[:at],
						testkit.FaultReset:     in[:at],
						testkit.FaultSlice:     in,
						testkit.FaultDuplicate: in[:end] + in[at:end] + in[end:],
						testkit.FaultInsert:    in[:at] + "++" + in[at:],
						testkit.FaultPush:      in[:at] + "++" + in[at:],
						testkit.FaultDrop:      in[:at] + in[end:],
					}[kind]
					if kind == testkit.FaultDuplicate && end-at < 2 {
						want = in // never complete
					}
					got, _ := transform(t, f, chunk)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%v %v at %d in chunks of %d (-want +got):\n%s", kind, dir, at, chunk, diff)
					}
				}
			}
		}
	}
}

func TestFaultCutEndsBothDirections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(0)
		fc := testkit.WithFaults(c, testkit.ByteFault{Kind: testkit.FaultCut, Dir: testkit.ToServer, At: 2})
		result := make(chan error, 1)
		go func() {
			_, err := fc.Read(make([]byte, 1))
			result <- err
		}()
		synctest.Wait()
		n, err := fc.Write([]byte("abc"))
		if n != 3 || err != nil {
			t.Fatalf("the write that is cut: %d, %v", n, err)
		}
		wantErr(t, "blocked read", <-result, io.EOF)
		_, err = fc.Write([]byte("d"))
		wantErr(t, "next write", err, syscall.EPIPE)
		if b, _ := io.ReadAll(s); string(b) != "ab" {
			t.Fatalf("the server got %q", b)
		}
	})
}

func TestFaultResetWithShortWriteTellsHowMuchPassed(t *testing.T) {
	c, s := pair(0)
	fc := testkit.WithFaults(c, testkit.ByteFault{Kind: testkit.FaultReset, Dir: testkit.ToServer, At: 2, ShortWrite: true})
	n, err := fc.Write([]byte("abc"))
	wantErr(t, "write", err, syscall.ECONNRESET)
	if n != 2 {
		t.Fatalf("wrote %d", n)
	}
	b, err := io.ReadAll(s)
	wantErr(t, "server's read", err, syscall.ECONNRESET)
	if string(b) != "ab" {
		t.Fatalf("the server got %q", b)
	}
}

func TestFaultStallIsABlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(0)
		fc := testkit.WithFaults(c,
			testkit.ByteFault{Kind: testkit.FaultStall, Dir: testkit.ToServer, At: 1},
			testkit.ByteFault{Kind: testkit.FaultStall, Dir: testkit.ToClient, At: 1})
		if n, err := fc.Write([]byte("abc")); n != 3 || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
		if n, err := s.Read(make([]byte, 8)); n != 1 || err != nil {
			t.Fatalf("the server read %d, %v", n, err)
		}
		_, _ = s.Write([]byte("xyz"))
		_ = s.Close()
		if n, err := fc.Read(make([]byte, 8)); n != 1 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		start := time.Now()
		_ = fc.SetReadDeadline(start.Add(time.Second))
		_, err := fc.Read(make([]byte, 8))
		wantErr(t, "read in the hole", err, os.ErrDeadlineExceeded)
		if took := time.Since(start); took != time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func TestFaultBlockHoldsAWriteUntilClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := pair(0)
		fc := testkit.ByteFault{Kind: testkit.FaultBlock, Dir: testkit.ToServer, At: 2}.Wrap(c)
		_ = fc.SetDeadline(time.Now().Add(time.Second))
		n, err := fc.Write([]byte("abc"))
		wantErr(t, "write", err, os.ErrDeadlineExceeded)
		if n != 2 {
			t.Fatalf("wrote %d", n)
		}
		_ = fc.SetDeadline(time.Time{})
		result := make(chan error, 1)
		go func() {
			_, err := fc.Write([]byte("c"))
			result <- err
		}()
		synctest.Wait()
		_ = fc.Close()
		wantErr(t, "blocked write", <-result, net.ErrClosed)
	})
}
