package acceptance_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
)

// bare is a handle that is used as go-redis uses none: it is written in pieces that end
// anywhere, read at the same time, and closed at any moment.
type bare struct {
	*audit
	net.Conn
	key  string
	owed chan string // replies, in order: each before its request is written
}

// useBare uses a handle until it fails, or is closed.
func (a *audit) useBare(c net.Conn) {
	b := &bare{audit: a, Conn: c, key: fmt.Sprint("bare", a.writes.Add(1)), owed: make(chan string, 1+rand.IntN(200))}
	life := time.AfterFunc(a.slow*time.Duration(10+rand.IntN(400))*time.Millisecond, func() { _ = c.Close() })
	var wg sync.WaitGroup
	wg.Go(b.write)
	b.read()
	life.Stop()
	_ = c.Close()
	for range b.owed {
		continue // the writer has to see that the handle is closed
	}
	wg.Wait()
}

func (b *bare) deadline() time.Time {
	return time.Now().Add(b.slow * time.Duration(10+rand.IntN(500)) * time.Millisecond)
}

// write writes requests until it can't, or closes the handle with one that has begun.
func (b *bare) write() {
	defer close(b.owed)
	size := sizes()
	for {
		request := b.request(size)
		piece := len(request)
		if rand.IntN(2) == 0 {
			piece = 1 + rand.IntN(40<<10)
		}
		for len(request) > 0 {
			p := append([]byte(nil), request[:min(piece, len(request))]...)
			_ = b.SetWriteDeadline(b.deadline())
			_, err := b.Write(p)
			clear(p) // it is the writer's again
			if err != nil {
				b.fail(err)
				return
			}
			request = request[len(p):]
			if rand.IntN(100) == 0 {
				_ = b.Close()
				return
			}
		}
		pause(time.Duration(rand.IntN(2)) * time.Millisecond)
	}
}

// request is a few commands, whose replies are owed.
func (b *bare) request(size func() int) (request []byte) {
	for range 1 + rand.IntN(5) {
		value := b.value(b.key, size())
		if rand.IntN(2) == 0 {
			b.owed <- fmt.Sprintf("$%d\r\n%s\r\n", len(value), value)
			request = resp.AppendCommand(request, "ECHO", value)
		} else {
			b.owed <- "+OK\r\n"
			request = resp.AppendCommand(request, "SETEX", b.key, fmt.Sprint(keepFor.Seconds()), value)
		}
	}
	return request
}

// read reads what is owed until it can't. After a timeout it goes on: the next bytes have to
// be the next ones.
func (b *bare) read() {
	mem := make([]byte, 1<<(9+rand.IntN(9)))
	reply, at := "", 0
	for late := 0; late < 3; {
		_ = b.SetReadDeadline(b.deadline())
		n, err := b.Conn.Read(mem)
		for read := string(mem[:n]); read != ""; {
			if at == len(reply) {
				reply, at = <-b.owed, 0 // "": none is
			}
			want := reply[at:min(at+len(read), len(reply))]
			if wrong := differs(b.key, want, read[:max(len(want), 1)]); wrong != nil {
				b.got(fmt.Errorf("from byte %d on of a reply of %d: %w", at, len(reply), wrong))
				return
			}
			b.got(nil)
			at, read = at+len(want), read[len(want):]
		}
		clear(mem) // it is the reader's again
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			late++
		case err != nil:
			b.fail(err)
			return
		}
	}
}

// The same for handles that one goroutine writes while another reads, and a third closes.
func TestChaosOnBareHandlesGivesNobodyTheBytesOfAnother(t *testing.T) {
	testkit.Works(t) // its subtests run beside each other: they mostly wait
	for _, w := range []way{{kind: testkit.Redis, protocol: 2}, {kind: testkit.Valkey, protocol: 2, shared: -1}} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			server := testkit.Start(t, w.kind)
			proxy := testkit.NewProxy(t, server.Addr)
			a := newAudit(t, server)
			s := ourSide(t, troubledConfig(w), redis.Options{Addr: proxy.Addr()})
			dialer := s.d.Options(&redis.Options{Addr: proxy.Addr()}).Dialer
			stop := make(chan struct{})
			wg := repeat(t, stop, 24, func(int, int) {
				if c, err := dialer(t.Context(), "tcp", proxy.Addr()); err != nil {
					a.failed("dial", err)
				} else {
					a.useBare(c)
				}
			})
			wg.Go(func() { stir(t, stop, proxy, max(a.slow, 3)) })
			pause(chaosFor(t))
			testkit.Await(t, "there are replies", func() bool { return a.reads.Load() > 0 })
			close(stop)
			wg.Wait()
			a.settledAndStored(s, server.Addr)
		})
	}
}
