package driver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A connection that was opened to check a login is closed after it; one that carries a
// WATCH is not, though its session command has led there before.
func TestASessionCommandUnderWatchKeepsTheConnection(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client()
		for round := range 4 {
			err := rdb.Watch(t.Context(), func(tx *redis.Tx) error {
				if err := tx.ClientSetName(t.Context(), fmt.Sprint("me", round%2)).Err(); err != nil {
					return err
				}
				_, err := tx.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
					p.Set(t.Context(), "k", "v", 0)
					return nil
				})
				return err
			}, "k")
			if err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
	})
}

// Nor is one whose pipeline ends with a session command that has led there before.
func TestAPipelineThatEndsWithSelectCostsNoConnection(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client()
		conn := rdb.Conn()
		defer conn.Close()
		for range 20 {
			if _, err := conn.Pipelined(t.Context(), func(p redis.Pipeliner) error {
				p.Get(t.Context(), "k")
				p.Select(t.Context(), 1)
				return nil
			}); err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			if _, err := conn.Pipelined(t.Context(), func(p redis.Pipeliner) error {
				p.Get(t.Context(), "k")
				p.Select(t.Context(), 0)
				return nil
			}); err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
		}
		if s := t.stats(); s.Dials > 6 {
			t.Errorf("%d dials, closes %v", s.Dials, s.Closes)
		}
	})
}

// hangingProvider returns a client that is in, and whose provider hangs, whatever its
// context, from when hang is set until release is closed.
func (l *lab) hangingProvider() (rdb *redis.Client, hang *atomic.Bool, release chan struct{}) {
	l.Helper()
	l.f.SetPassword("ann", "pw")
	hang, release = new(atomic.Bool), make(chan struct{})
	rdb = l.client(func(o *redis.Options) {
		o.CredentialsProvider = func() (string, string) {
			if hang.Load() {
				<-release
			}
			return "ann", "pw"
		}
	})
	if err := rdb.Ping(l.Context()).Err(); err != nil {
		l.Fatal(err)
	}
	return rdb, hang, release
}

// The pool dials for others while one client's provider hangs, even if that one knows no
// context.
func TestAHangingProviderStarvesNoOtherClient(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		bad, hang, release := t.hangingProvider()
		good := t.client()
		if err := good.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		hang.Store(true)
		t.f.ResetAll()
		time.Sleep(time.Minute)
		go func() { _ = bad.Ping(t.Context()).Err() }()
		synctest.Wait()
		for range 3 {
			if err := good.Ping(t.Context()).Err(); err != nil {
				t.Errorf("another client: %v", err)
			}
		}
		close(release)
		synctest.Wait()
	})
}

// DialTimeout bounds a dial, whatever the provider does in it; so Close ends.
func TestAHangingProviderDoesNotKeepTheDriverFromClosing(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		rdb, hang, release := t.hangingProvider()
		hang.Store(true)
		t.f.ResetAll()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = rdb.Ping(ctx).Err()
		closed := make(chan struct{})
		go func() { _ = t.d.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(time.Hour):
			t.Error("Close still waits after an hour")
		}
		close(release)
		<-closed
	})
}

// The other handles of the client don't wait for ever for the handshake of the one whose
// provider hangs: on the stock pool, too, only its own caller waits.
func TestAProviderThatHangsOnceCostsOneCaller(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		t.f.SetPassword("ann", "pw")
		release := make(chan struct{})
		var calls atomic.Int64
		hang := func(o *redis.Options) {
			o.CredentialsProvider = func() (string, string) {
				if calls.Add(1) == 1 {
					<-release
				}
				return "ann", "pw"
			}
		}
		rdb := t.client(hang)
		go func() { _ = rdb.Ping(t.Context()).Err() }()
		synctest.Wait()
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := rdb.Ping(ctx).Err(); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			cancel()
			time.Sleep(time.Minute)
		}
		close(release)
		synctest.Wait()
	})
}

// The step of a handle whose provider has panicked isn't left to that handle.
func TestAPanicOfTheProviderCostsOneCaller(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		t.f.SetPassword("ann", "pw")
		var calls atomic.Int64
		rdb := t.client(func(o *redis.Options) {
			o.CredentialsProvider = func() (string, string) {
				if calls.Add(1) == 1 {
					panic("the vault")
				}
				return "ann", "pw"
			}
		})
		func() {
			defer func() { t.Log("recovered:", recover()) }()
			t.Log(rdb.Ping(t.Context()).Err())
		}()
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := rdb.Ping(ctx).Err(); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			cancel()
		}
		t.Logf("%d calls of the provider", calls.Load())
	})
}

// Where the pool asks, no caller could recover.
func TestAPanicOfTheProviderInThePoolEndsNoProcess(t *testing.T) {
	if os.Getenv("EVERPOOL_TEST_PANIC") != "" {
		f := testkit.NewFake()
		f.SetPassword("ann", "pw")
		d := newDriver(t, driver.Config{Dial: f.Dial})
		var calls atomic.Int64
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr, CredentialsProvider: func() (string, string) {
			if calls.Add(1) > 1 {
				panic("the vault")
			}
			return "ann", "pw"
		}}))
		for range 3 {
			func() {
				defer func() { _ = recover() }()
				_ = rdb.Ping(t.Context()).Err()
				f.ResetAll()
				time.Sleep(50 * time.Millisecond)
			}()
		}
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAPanicOfTheProviderInThePoolEndsNoProcess$", "-test.timeout=30s")
	cmd.Env = append(os.Environ(), "EVERPOOL_TEST_PANIC=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		s := string(out)
		t.Errorf("%v: %s", err, s[:min(len(s), 700)])
	}
}

// Short-lived clients with a provider each have sessions of their own, whose number is
// bounded: those of clients that have gone make room, whole handshakes of them.
func TestManyClientsWithProviders(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 20}}, func(t *lab) {
		t.f.SetPassword("ann", "pw")
		keep := t.client()
		if err := keep.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		pinned := 0
		for i := range 200 {
			rdb := redis.NewClient(t.d.Options(&redis.Options{Addr: labAddr, MaxRetries: -1, CredentialsProvider: func() (string, string) { return "ann", "pw" }}))
			if err := rdb.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
				t.Fatalf("client %d: %v", i, err)
			}
			if s := t.stats(); s.Pinned > 0 {
				pinned++
			}
			_ = rdb.Close()
			synctest.Wait()
		}
		s := t.stats()
		t.Logf("%d of 200 clients were pinned; %d open, %d idle, %d sessions, %d lanes, live %d, dials %d", pinned, s.OpenConnections, s.Idle, s.Sessions, s.Lanes, t.f.Live(), s.Dials)
		if pinned > 0 {
			t.Errorf("%d of 200 clients got a connection pinned", pinned)
		}
	})
}

var manyClients = 100

func TestManyLivingClientsWithProviders(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 20}}, func(t *lab) {
		t.f.SetPassword("ann", "pw")
		clients := make([]*redis.Client, manyClients)
		for i := range clients {
			clients[i] = t.client(func(o *redis.Options) {
				o.CredentialsProvider = func() (string, string) { return "ann", "pw" }
				if !driver.Vetoes {
					o.MaxRetries = 3 // a handle whose connection was taken costs a try
				}
			})
		}
		start := time.Now()
		failed := 0
		for round := range 3 {
			var wg sync.WaitGroup
			var mu sync.Mutex
			for _, c := range clients {
				wg.Go(func() {
					if err := c.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
						mu.Lock()
						if failed++; failed < 4 {
							t.Errorf("round %d: %v", round, err)
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
		}
		s := t.stats()
		t.Logf("%d failed in %v; pinned %d, open %d, dials %d", failed, time.Since(start), s.Pinned, s.OpenConnections, s.Dials)
	})
}

// A new client needs a connection for its first step. A lane gives its own where all
// others are held by commands that block.
func TestANewClientIsServedBesideBlockingCommands(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 4}}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.ReadTimeout, o.WriteTimeout = -1, -1 })
		ctx, cancel := context.WithCancel(t.Context())
		if err := rdb.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _ = rdb.BLPop(ctx, 10*time.Minute, "list").Err() })
		}
		synctest.Wait()
		if err := rdb.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
			t.Errorf("the old client: %v", err)
		}
		s := t.stats()
		t.Logf("open %d, lanes %d, in use %d, pinned %d", s.OpenConnections, s.Lanes, s.InUse, s.Pinned)
		fresh := t.client()
		for range 2 {
			start := time.Now()
			if err := fresh.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
				t.Errorf("a new client, after %v: %v", time.Since(start), err)
			}
		}
		cancel()
		t.f.ResetAll()
		wg.Wait()
	})
}

// racer is a streaming provider whose credentials change while a handle subscribes.
type racer struct {
	stream
	during func()
}

func (r *racer) Subscribe(l auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	c, u, err := r.stream.Subscribe(l)
	if d := r.during; d != nil {
		r.during = nil
		d()
	}
	return c, u, err
}

// The newest credentials are those of OnNext, not what a Subscribe that began before returns after it.
func TestWhatASubscribeReturnsLateIsNotTheNewest(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		t.f.SetPassword("ann", "t0")
		p := &racer{stream: stream{current: auth.NewBasicCredentials("ann", "t0"), listeners: map[auth.CredentialsListener]bool{}}}
		options := t.d.Options(&redis.Options{Addr: labAddr, StreamingCredentialsProvider: p})
		v := t.handleOf(options)
		v.hello("ann", "t0")
		v.do("GET k", "_")
		if _, _, err := options.StreamingCredentialsProvider.Subscribe(new(listener)); err != nil {
			t.Fatal(err)
		}
		p.during = func() { // between the provider's answer and ours
			t.f.SetPassword("ann", "t1")
			for _, l := range p.set(auth.NewBasicCredentials("ann", "t1")) {
				l.OnNext(p.current)
			}
		}
		if _, _, err := options.StreamingCredentialsProvider.Subscribe(new(listener)); err != nil {
			t.Fatal(err)
		}
		v.do("AUTH ann t1", "+OK") // what go-redis does when it is told
	})
}

// Nor with a HELLO that is too large to be gathered, and so to be filled in.
func TestTheTokenNeverReachesTheServer(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		t.f.SetPassword("ann", "pw")
		rdb := t.client(func(o *redis.Options) {
			o.CredentialsProvider = func() (string, string) { return "ann", "pw" }
			o.ClientName = strings.Repeat("n", 70<<10)
		})
		err := rdb.Ping(t.Context()).Err()
		for _, l := range t.logins() {
			if strings.HasPrefix(l, "everpool-") {
				t.Errorf("the server was shown the token (PING: %v)", err)
			}
		}
	})
}

// As stock: the error of a provider is told to go-redis's legacy login too.
func TestTheProvidersErrorIsToldWithoutHello(t *testing.T) {
	sealed := errors.New("the vault is sealed")
	inBothLabs(t, driver.Config{}, func(t *lab) {
		var p tokens
		rdb := t.client(func(o *redis.Options) { o.CredentialsProviderContext = p.provide(t); o.DB = 3 })
		p.fail(sealed)
		if err := rdb.Ping(t.Context()).Err(); !errors.Is(err, sealed) {
			t.Errorf("PING: %v", err)
		}
		p.fail(nil)
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Errorf("PING: %v", err)
		}
		p.fail(sealed)
		t.f.ResetAll()
		time.Sleep(time.Minute)
		if _, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Incr(t.Context(), "a")
			p.Incr(t.Context(), "b")
			return nil
		}); !errors.Is(err, sealed) {
			t.Errorf("pipeline: %v (%T)", err, err)
		}
		if _, err := rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Incr(t.Context(), "a")
			p.Incr(t.Context(), "b")
			return nil
		}); !errors.Is(err, sealed) {
			t.Errorf("transaction: %v (%T)", err, err)
		}
		sub := rdb.Subscribe(t.Context(), "ch")
		defer sub.Close()
		if _, err := sub.Receive(t.Context()); !errors.Is(err, sealed) {
			t.Errorf("subscription: %v (%T)", err, err)
		}
	}, testkit.WithoutHello())
}

// Each rotation leads from one state to the next. Those that were left behind make room.
func TestManyRotationsPinNothing(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 20}}, func(t *lab) {
		t.f.SetPassword("ann", "t0")
		p := &stream{current: auth.NewBasicCredentials("ann", "t0"), listeners: map[auth.CredentialsListener]bool{}}
		rdb := t.client(func(o *redis.Options) { o.StreamingCredentialsProvider, o.PoolSize = p, 2 })
		first := -1
		for round := 1; round <= 400; round++ {
			if err := rdb.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
				t.Fatalf("round %d: %v", round, err)
			}
			token := fmt.Sprint("t", round)
			t.f.SetPassword("ann", token)
			for _, l := range p.set(auth.NewBasicCredentials("ann", token)) {
				l.OnNext(p.current)
			}
			synctest.Wait()
			if s := t.stats(); s.Pinned > 0 && first < 0 {
				first = round
			}
		}
		if s := t.stats(); s.Pinned > 0 {
			t.Errorf("%d pinned, first after %d rotations", s.Pinned, first)
		}
	})
}
