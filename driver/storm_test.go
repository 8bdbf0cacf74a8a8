package driver_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// readReply reads one reply of any kind and returns its first line, and the body of a
// bulk string.
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$':
		if n < 0 {
			return line, nil
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		return "$" + string(b[:n]), nil
	case '%':
		n *= 2
		fallthrough
	case '*', '>':
		for range n {
			if _, err := readReply(r); err != nil {
				return "", err
			}
		}
	}
	return line, nil
}

// A storm on handles: writers, readers, closers and those who set deadlines at any
// moment, under faults. No reply may be another's, no INCR may run twice, and nothing
// may be left.
func TestStorm(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			shared := 0
			if seed%3 == 0 {
				shared = -1
			}
			// Not in a bubble: a Write waits for the mutex of a Read that sends.
			inTime(t, driver.Config{Logger: slog.New(slog.DiscardHandler), Pool: pooler.Config{MaxOpenConns: 2 + int(seed)%6, SharedConns: shared}}, func(t *lab) {
				t.f.SetPassword("ann", "pw")
				var mu sync.Mutex
				ran := map[string]int{}
				t.f.Handle("GET", func(_ *testkit.FakeConn, args []string) []byte { return testkit.ReplyBulk(args[1]) })
				t.f.Handle("TOUCHY", nil)
				t.f.Handle("INCR", func(_ *testkit.FakeConn, args []string) []byte {
					mu.Lock()
					defer mu.Unlock()
					ran[args[1]]++
					return testkit.ReplyInt(1)
				})
				slow := rand.New(rand.NewPCG(seed, 7))
				t.f.Handle("ECHO", func(_ *testkit.FakeConn, args []string) []byte {
					mu.Lock()
					d := time.Duration(slow.IntN(30)) * time.Millisecond
					mu.Unlock()
					time.Sleep(d)
					return testkit.ReplyBulk(args[1])
				})
				providers := make([]*redis.Options, 4)
				for i := range providers {
					o := &redis.Options{Addr: labAddr}
					if i%2 == 0 {
						o.CredentialsProvider = func() (string, string) { time.Sleep(time.Millisecond); return "ann", "pw" }
					}
					providers[i] = t.d.Options(o)
				}
				var wg sync.WaitGroup
				for i := range 40 {
					wg.Go(func() { t.storm(seed, uint64(i), providers[i%4]) })
				}
				done := make(chan struct{})
				go func() { wg.Wait(); close(done) }()
				r := rand.New(rand.NewPCG(seed, 99))
				for running := true; running; {
					select {
					case <-done:
						running = false
					case <-time.After(time.Duration(20+r.IntN(200)) * time.Millisecond):
						switch r.IntN(6) {
						case 0:
							t.f.ResetAll()
						case 1:
							t.f.CutReply(r.IntN(6))
						}
					}
				}
				t.f.CutReply(-1)
				for k, n := range ran {
					if n > 1 {
						t.Errorf("%s ran %d times", k, n)
					}
				}
				testkit.Await(t, "all leases, pins and handles to be gone", func() bool {
					s := t.stats()
					return s.InUse-s.Lanes == 0 && s.Pinned == 0 && t.d.Nodes()[0].Handles == 0
				})
				s := t.stats()
				t.Logf("%d INCRs, admitted %d answered %d failed %d abandoned %d moved %d resent %d unknown %d", len(ran), s.Admitted, s.Answered, s.Failed, s.Abandoned, s.Moved, s.Resent, s.Unknown)
				if err := t.d.Close(); err != nil {
					t.Error(err)
				}
				if s := t.stats(); s.Admitted != s.Answered+s.Failed+s.Abandoned || s.InFlight != 0 || s.Waiting != 0 || s.OpenConnections != 0 {
					t.Errorf("the books don't balance: %+v", s)
				}
			})
		})
	}
}

func inTime(t *testing.T, cfg driver.Config, run func(l *lab)) {
	l := &lab{T: t, f: testkit.NewFake()}
	t.Cleanup(l.f.Close)
	cfg.Dial = l.f.Dial
	l.d = newDriver(t, cfg)
	run(l)
}

func (l *lab) storm(seed, id uint64, of *redis.Options) {
	r := rand.New(rand.NewPCG(seed, id+1000))
	for life := range 8 {
		nc, err := of.Dialer(l.Context(), "tcp", labAddr)
		if err != nil {
			continue
		}
		l.stormOn(r, nc, fmt.Sprint(id, "-", life), of)
		_ = nc.Close()
	}
}

func (l *lab) stormOn(r *rand.Rand, nc net.Conn, name string, of *redis.Options) {
	expected := make(chan string, 10000)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	by := func() time.Time { return time.Now().Add(time.Duration(1+r.IntN(400)) * time.Millisecond) }
	_ = nc.SetDeadline(time.Now().Add(2 * time.Second))
	seedR, seedC := r.Uint64(), r.Uint64()
	wg.Go(func() { // the reader
		rd := bufio.NewReaderSize(nc, 16+int(seedR%300))
		for want := range expected {
			got, err := readReply(rd)
			if err != nil {
				_ = nc.Close()
				for range expected {
				}
				return
			}
			if strings.HasPrefix(want, "$") && got != want && !strings.HasPrefix(got, "+QUEUED") && !strings.HasPrefix(got, "-") {
				l.Errorf("handle %s: reply %q, want %q", name, got, want)
			}
		}
	})
	wg.Go(func() { // deadlines and Close
		r := rand.New(rand.NewPCG(seedC, 1))
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(r.IntN(60)) * time.Millisecond):
			}
			switch r.IntN(9) {
			case 0:
				_ = nc.Close()
				return
			case 1, 2:
				_ = nc.SetReadDeadline(time.Now().Add(time.Duration(r.IntN(300)) * time.Millisecond))
			case 3:
				_ = nc.SetWriteDeadline(time.Now().Add(time.Duration(r.IntN(300)) * time.Millisecond))
			case 4:
				_ = nc.SetDeadline(time.Now().Add(time.Second))
			}
		}
	})
	if of.CredentialsProviderContext != nil {
		_, token, _ := of.CredentialsProviderContext(l.Context())
		expected <- ""
		if _, err := nc.Write([]byte(frames("HELLO 3 AUTH default " + token))); err != nil {
			goto end
		}
	} else {
		expected <- ""
		if _, err := nc.Write([]byte(frames("HELLO 3"))); err != nil {
			goto end
		}
	}
	for i := range 12 {
		var lines, wants []string
		add := func(line, want string) { lines, wants = append(lines, line), append(wants, want) }
		key := fmt.Sprint(name, ":", i)
		switch r.IntN(14) {
		case 0, 1, 2:
			add("GET "+key, "$"+key)
		case 3:
			add("INCR "+key, "")
		case 4:
			add("ECHO "+key, "$"+key)
		case 5:
			for j := range r.IntN(20) {
				add(fmt.Sprint("GET ", key, ".", j), fmt.Sprint("$", key, ".", j))
			}
			add("INCR "+key, "")
		case 6:
			add("MULTI", "")
			add("INCR "+key, "")
			add("EXEC", "")
		case 7:
			add("MULTI", "")
			add("GET "+key, "")
		case 8:
			add("WATCH "+key, "")
		case 9:
			add("UNWATCH", "")
		case 10:
			add("CLIENT ID", "")
		case 11:
			add(fmt.Sprint("SELECT ", r.IntN(3)), "")
		case 12:
			add("DISCARD", "")
			add("GET "+key, "$"+key)
		case 13:
			add("BLPOP "+key+" 0.02", "")
		}
		raw := frames(lines...)
		for _, w := range wants {
			expected <- w
		}
		for len(raw) > 0 { // in pieces
			n := len(raw)
			if r.IntN(4) == 0 {
				n = 1 + r.IntN(n)
			}
			if _, err := nc.Write([]byte(raw[:n])); err != nil {
				goto end
			}
			raw = raw[n:]
		}
		if r.IntN(3) == 0 {
			time.Sleep(time.Until(by()) / 4)
		}
	}
end:
	close(expected)
	time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
	if r.IntN(2) == 0 {
		_ = nc.Close()
	}
	close(stop)
	_ = nc.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	wg.Wait()
}
