package acceptance_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// A *tls.Conn repeats its first timeout for ever.
func TestAWriteDeadlineThatHasPassedSpoilsNoTLSConnection(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithTLS())
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		lateWrites(t, s, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, SharedConns: shared}})
	})
}

// lateWrites writes in time and too late by turns, over TLS.
func lateWrites(t *testing.T, s *testkit.Server, cfg driver.Config) {
	t.Helper()
	d := drivertest.New(t, cfg)
	dial := d.Options(&redis.Options{Addr: s.Addr, TLSConfig: s.TLSConfig()}).Dialer
	ping := func(change func(net.Conn)) error {
		t.Helper()
		nc, err := dial(t.Context(), "tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
		change(nc)
		if _, err := nc.Write(resp.AppendCommand(nil, "PING")); err != nil {
			return err
		}
		_, err = io.ReadFull(nc, make([]byte, len("+PONG\r\n")))
		return err
	}
	for range 3 {
		if err := ping(func(net.Conn) {}); err != nil {
			t.Fatal(err)
		}
		// Once: on a shared connection Lane.submit doesn't look at the deadline.
		// The request is sent, and the watch that finds the deadline passed during
		// the write gives up the whole TLS connection, with everybody's requests.
		err := ping(func(nc net.Conn) { _ = nc.SetWriteDeadline(time.Now().Round(0).Add(-time.Second)) }) // as a client's own timeout
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v, want a timeout", err)
		}
	}
	if n := d.Nodes()[0].Stats.Dials; n != 1 {
		t.Errorf("%d dials", n)
	}
}
