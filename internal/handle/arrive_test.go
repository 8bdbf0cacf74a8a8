package handle

import (
	"bufio"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
)

// lateWay is a ride whose reader comes back late: when then was done.
type lateWay struct {
	*ride
	then func()
}

func (w lateWay) Receive(p []byte, by time.Time) (int, bool, error) {
	n, done, err := w.ride.Receive(p, by)
	w.then()
	return n, done, err
}

// Full-duplex clients write while they read. A reader that was told that all replies
// are here may come back after a Write that has sent more.
func TestABatchGoesOnThatWasWrittenToWhileItsReaderCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := testkit.NewFake()
		defer fake.Close()
		h := on(t, fake)
		write := func(command ...string) {
			if _, err := h.Write(resp.AppendCommand(nil, command...)); err != nil {
				t.Fatal(err)
			}
		}
		write("PING")
		var buf [64]byte
		h.mu.Lock()
		n, err := h.receive(lateWay{&h.ride, func() { write("ECHO", "second") }}, buf[:], time.Time{})
		h.mu.Unlock()
		if err != nil || string(buf[:n]) != "+PONG\r\n" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		r := bufio.NewReader(h)
		for _, want := range []string{"$6", "second"} {
			_ = h.SetReadDeadline(time.Now().Add(time.Minute))
			if got, err := r.ReadString('\n'); err != nil || strings.TrimSpace(got) != want {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		}
		_ = h.Close()
	})
}
