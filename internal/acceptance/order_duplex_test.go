package acceptance_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// As go-redis's full-duplex pipelines do: one goroutine writes to a handle while
// another reads from it, with a few requests under way, so that the handle is idle
// every now and then at the moment of the next Write. Its requests must not spread
// over shared connections whose replies overtake each other.
func TestAHandleThatIsWrittenWhileItIsReadGetsItsRepliesInOrder(t *testing.T) {
	testkit.Works(t)
	server := testkit.Start(t, testkit.Redis)
	requests := 10_000
	if testkit.Race {
		requests = 4_000
	}
	for name, cfg := range map[string]pooler.Config{"one lane": {SharedConns: 1}, "four lanes": {}, "leases": {SharedConns: -1}} {
		t.Run(name, func(t *testing.T) {
			s := ourSide(t, driver.Config{Pool: cfg}, redis.Options{Addr: server.Addr})
			stop := make(chan struct{})
			others := repeat(t, stop, 4, func(id, i int) { _ = s.rdb.Echo(context.Background(), fmt.Sprint(id, i)).Err() })
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { s.writeAndRead(t, server.Addr, requests) })
			}
			wg.Wait()
			close(stop)
			others.Wait()
			if n := s.settled(t).Unknown; n != 0 {
				t.Errorf("%d unknown outcomes, and nothing was lost", n)
			}
		})
	}
}

// writeAndRead sends n requests, three at a time, on a handle of its own.
func (s side) writeAndRead(t *testing.T, addr string, n int) {
	nc, err := s.d.Options(&redis.Options{Addr: addr}).Dialer(t.Context(), "tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	window := make(chan struct{}, 3)
	read, written := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(written)
		for i := range n {
			select {
			case window <- struct{}{}:
			case <-read:
				return
			}
			if _, err := nc.Write(resp.AppendCommand(nil, "ECHO", fmt.Sprintf("%06d", i))); err != nil {
				t.Errorf("write %d: %v", i, err)
				return
			}
		}
	}()
	defer func() {
		close(read)
		<-written // a Write fails that hasn't returned when its handle is closed
		_ = nc.Close()
	}()
	r := bufio.NewReader(nc)
	for i := range n {
		want := fmt.Sprintf("$6\r\n%06d\r\n", i)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
			t.Errorf("read %d: %q, %v", i, got, err)
			return
		}
		<-window
	}
}
