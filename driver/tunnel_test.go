package driver_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// tunnel is a connection that refuses deadlines, as one through ssh does.
type tunnel struct{ net.Conn }

var errNoDeadline = errors.New("ssh: tcpChan: deadline not supported")

func (tunnel) SetDeadline(time.Time) error      { return errNoDeadline }
func (tunnel) SetReadDeadline(time.Time) error  { return errNoDeadline }
func (tunnel) SetWriteDeadline(time.Time) error { return errNoDeadline }

// go-redis advises timeouts of -2 for them, with which it sets no deadlines.
func TestConnectionsThatRefuseDeadlinesServe(t *testing.T) {
	for _, timeout := range []time.Duration{-2, 0} {
		inBothLabs(t, driver.Config{}, func(t *lab) {
			t.answers("*2\r\n$1\r\nq\r\n$1\r\nx\r\n", "BLPOP")
			rdb := t.client(func(o *redis.Options) {
				o.ReadTimeout, o.WriteTimeout, o.MaxRetries = timeout, timeout, 1
			})
			for name, call := range calls {
				if err := call(t.Context(), rdb); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if err := rdb.Watch(t.Context(), func(tx *redis.Tx) error {
				_, err := tx.TxPipelined(t.Context(), func(p redis.Pipeliner) error { p.Incr(t.Context(), "n"); return nil })
				return err
			}, "k"); err != nil {
				t.Errorf("Watch: %v", err)
			}
			if err := rdb.BLPop(t.Context(), 0, "q").Err(); err != nil {
				t.Errorf("BLPop: %v", err)
			}
			sub := rdb.Subscribe(t.Context(), "c")
			if _, err := sub.Receive(t.Context()); err != nil {
				t.Errorf("Subscribe: %v", err)
			}
			rdb.Publish(t.Context(), "c", "hi")
			if msg, err := sub.ReceiveMessage(t.Context()); err != nil || msg.Payload != "hi" {
				t.Errorf("received %v, %v", msg, err)
			}
			_ = sub.Close()
			if s := t.stats(); s.DialErrors != 0 {
				t.Errorf("%d dials failed: %s", s.DialErrors, s.LastDialError)
			}
		}, testkit.WithConnWrapper(func(nc net.Conn) net.Conn { return tunnel{nc} }))
	}
}
