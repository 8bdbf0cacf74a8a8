package driver

import (
	"crypto/tls"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/topology"
)

// A manager that lets go of a node has it looked at again: its time without handles may
// have been over just then.
func TestANodeThatIsLetGoOfIsForgottenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := New(Config{Logger: slog.New(slog.DiscardHandler), Dial: nobody})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		b := bindingOf(d.Options(&redis.Options{Addr: "10.0.0.1:1", TLSConfig: &tls.Config{ServerName: "a"}}).Dialer)
		n, err := d.node(b, "tcp", "10.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		n.hold()
		n.drop(&b.Client)
		n.linger.Stop() // as when it has found the node needed in the moment before
		time.Sleep(time.Minute)
		if got := d.Nodes(); len(got) != 1 {
			t.Errorf("a node that is held: %+v", got)
		}
		n.release()
		time.Sleep(topology.Linger + time.Millisecond)
		if got := d.Nodes(); len(got) != 0 {
			t.Errorf("%+v are left", got)
		}
	})
}
