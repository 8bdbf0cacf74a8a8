package driver

import (
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// sentinelWait is how long a request waits for one sentinel where another may answer.
const sentinelWait = 250 * time.Millisecond

// While all sentinels are slow to be reached, as on a busy machine, a request isn't told
// that none can be: go-redis's cluster client on sentinels asks each once, and not again.
// As soon as one is reached the others aren't waited for any more.
func TestSentinelsThatAreAllSlowToBeReachedAreWaitedFor(t *testing.T) {
	addrs := []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"}
	for _, row := range []struct {
		what    string
		reached [3]time.Duration
		within  [3]time.Duration // that the requests end
		wrong   [3]bool
	}{
		{
			"all of them",
			[3]time.Duration{600 * time.Millisecond, 600 * time.Millisecond, 600 * time.Millisecond},
			[3]time.Duration{600 * time.Millisecond, 600 * time.Millisecond, 600 * time.Millisecond},
			[3]bool{},
		},
		{
			"one sooner than the others",
			[3]time.Duration{3 * time.Second, 600 * time.Millisecond, 3 * time.Second},
			[3]time.Duration{750 * time.Millisecond, 600 * time.Millisecond, 750 * time.Millisecond},
			[3]bool{true, false, true},
		},
		{
			"all but one",
			[3]time.Duration{3 * time.Second, 0, 3 * time.Second},
			[3]time.Duration{sentinelWait, 0, sentinelWait},
			[3]bool{true, false, true},
		},
	} {
		t.Run(row.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := testkit.NewFake()
				t.Cleanup(f.Close)
				d, err := New(Config{Logger: slog.New(slog.DiscardHandler), Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
					time.Sleep(row.reached[slices.Index(addrs, addr)])
					return f.Dial(ctx, network, addr)
				}})
				if err != nil {
					t.Fatal(err)
				}
				o := d.FailoverOptions(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: addrs})
				began := time.Now()
				var wg sync.WaitGroup
				for i, addr := range addrs {
					wg.Go(func() {
						err := ping(t, bindingOf(o.Dialer).group.sentinels, addr, 4*time.Second)
						if took := time.Since(began); (err != nil) != row.wrong[i] || took != row.within[i] {
							t.Errorf("%s: %v after %s, want it after %s, with an error: %t", addr, err, took, row.within[i], row.wrong[i])
						}
					})
				}
				wg.Wait()
				_ = d.Close()
				time.Sleep(time.Minute) // the dials may go on
			})
		})
	}
}

// ping has a sentinel answer on a handle of its own.
func ping(t *testing.T, b *binding, addr string, within time.Duration) error {
	nc, err := b.connect(t.Context(), "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(within))
	if _, err := io.WriteString(nc, "*1\r\n$4\r\nPING\r\n"); err != nil {
		return err
	}
	_, err = nc.Read(make([]byte, 64))
	return err
}

// A sentinel that has answered may be lost, and dials to it hang: what shares waits for it
// no longer than what leases, while another one may answer.
func TestWhatSharesWaitsForALostSentinelBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := testkit.NewFake()
		t.Cleanup(f.Close)
		d, err := New(Config{Logger: slog.New(slog.DiscardHandler), Dial: f.Dial})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		o := d.FailoverOptions(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{"10.0.0.1:1", "10.0.0.2:1"}})
		nc, err := bindingOf(o.Dialer).group.sentinels.connect(t.Context(), "tcp", "10.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		ping := func() error {
			_ = nc.SetDeadline(time.Now().Add(4 * time.Second))
			if _, err := io.WriteString(nc, "*1\r\n$4\r\nPING\r\n"); err != nil {
				return err
			}
			_, err := nc.Read(make([]byte, 64))
			return err
		}
		if err := ping(); err != nil {
			t.Fatal(err)
		}
		f.HangDials(true)
		f.ResetAll()
		began := time.Now()
		if err, took := ping(), time.Since(began); err == nil || took != sentinelWait {
			t.Errorf("%v after %s, want an error after %s", err, took, sentinelWait)
		}
		f.HangDials(false)
	})
}
