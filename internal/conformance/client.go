package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

var clientGuarantees = []guarantee{
	{name: "hooks see dials, commands and pipelines", check: func(w *world) {
		seen := &recorder{}
		c := w.client()
		addHook(c, seen)
		k := w.key("k")
		ok(w, c.Set(w.ctx, k, "v", 0).Err())
		wantErr(w, c.Get(w.ctx, w.key("none")).Err(), redis.Nil)
		_, err := c.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Get(w.ctx, k)
			p.StrLen(w.ctx, k)
			return nil
		})
		ok(w, err)
		_, err = c.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Append(w.ctx, k, "w")
			return nil
		})
		ok(w, err)
		ok(w, c.Watch(w.ctx, func(tx *redis.Tx) error { return tx.Exists(w.ctx, k).Err() }, k))
		conn := w.node(c).Conn()
		defer conn.Close()
		ok(w, conn.Echo(w.ctx, "x").Err())
		for _, what := range []string{"dial", "set", "get redis: nil", "pipeline get strlen", "pipeline multi append exec", "watch", "exists", "unwatch", "echo"} {
			if !seen.has(what) {
				w.Errorf("the hook didn't see %q; it saw %q", what, seen.all())
			}
		}
	}},
	{name: "hooks wrap in order and may change a command's error", check: func(w *world) {
		var order []string
		c := w.client()
		cause := errors.New("the hook says no")
		c.AddHook(orderHook{name: "first", order: &order})
		c.AddHook(orderHook{name: "second", order: &order, err: cause})
		ok(w, c.Ping(w.ctx).Err())
		order = nil
		wantErr(w, c.Echo(w.ctx, "x").Err(), cause)
		equal(w, order, []string{"first>", "second>", "second<", "first<"})
	}},
	{name: "a Limiter is asked before and told after each command", check: func(w *world) {
		l := &limiter{}
		c := w.client(func(o *redis.Options) { o.Limiter = l })
		each(w, 8, func(int) error { return c.Ping(w.ctx).Err() })
		if l.asked.Load() < 8 || l.asked.Load() != l.told.Load() {
			w.Fatalf("asked %d times, told %d times, want 8 or more of each", l.asked.Load(), l.told.Load())
		}
		denied := errors.New("too many")
		l.deny.Store(&denied)
		wantErr(w, c.Ping(w.ctx).Err(), denied)
		_, err := c.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Ping(w.ctx)
			return nil
		})
		wantErr(w, err, denied)
		l.deny.Store(nil)
		want(w, "PONG")(c.Ping(w.ctx).Result())
	}},
	{name: "a closed client answers ErrClosed to everything", check: func(w *world) {
		c := w.client(soonAgain)
		want(w, "PONG")(c.Ping(w.ctx).Result())
		ok(w, c.Close())
		each(w, 8, func(int) error {
			if err := c.Ping(w.ctx).Err(); !errors.Is(err, redis.ErrClosed) {
				return wrongf("PING: %v", err)
			}
			return nil
		})
		_, err := c.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Ping(w.ctx)
			return nil
		})
		wantErr(w, err, redis.ErrClosed)
		_, err = c.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Ping(w.ctx)
			return nil
		})
		wantErr(w, err, redis.ErrClosed)
		wantErr(w, c.BLPop(w.ctx, 0, w.key("k")).Err(), redis.ErrClosed)
	}},
	{name: "a closed client watches nothing", check: func(w *world) {
		c := w.client()
		want(w, "PONG")(c.Ping(w.ctx).Result())
		ok(w, c.Close())
		wantErr(w, c.Watch(w.ctx, func(*redis.Tx) error { return nil }, w.key("k")), redis.ErrClosed)
	}},
	{name: "a client that is closed again says that it is", check: func(w *world) {
		c := w.client()
		ok(w, c.Close())
		wantErr(w, c.Close(), redis.ErrClosed)
	}},
	{name: "closing one client leaves another of the same options alone", check: func(w *world) {
		a, b := w.client(), w.client()
		ok(w, a.Ping(w.ctx).Err())
		ok(w, b.Ping(w.ctx).Err())
		ok(w, a.Close())
		want(w, "PONG")(b.Ping(w.ctx).Result())
	}},
	{name: "Close under load ends every command", check: func(w *world) {
		c := w.client(soonAgain, func(o *redis.Options) { o.MaxRetries = -1 })
		running := make(chan struct{}, 16)
		done := make(chan error, 16)
		for i := range 16 {
			go func() {
				for n := 0; ; n++ {
					v := fmt.Sprintf("%d.%d", i, n)
					got, err := c.Echo(w.ctx, v).Result()
					if err == nil && got != v {
						done <- wrongf("ECHO: got %q, want %q", got, v)
						return
					}
					// What a command that was under way gets is left open;
					// that the client is closed is not.
					if errors.Is(err, redis.ErrClosed) {
						done <- nil
						return
					}
					if n == 0 {
						running <- struct{}{}
					}
				}
			}()
		}
		for range 16 {
			receive(w, running, "a running goroutine")
		}
		ok(w, c.Close())
		for range 16 {
			ok(w, receive(w, done, "the end of a goroutine"))
		}
	}},
	{name: "Close ends a blocked command", check: func(w *world) {
		c := w.named("closing", func(o *redis.Options) { o.MaxRetries = -1 })
		done := make(chan error, 1)
		go func() { done <- c.BLPop(w.ctx, blockFor, w.key("empty")).Err() }()
		w.awaitBlocked("closing", 1)
		ok(w, c.Close())
		if err := receive(w, done, "the end of BLPOP"); err == nil || errors.Is(err, redis.Nil) {
			w.Fatalf("BLPOP of a closed client: %v", err)
		}
	}},
	{name: "PoolStats count what the client uses", check: func(w *world) {
		c := w.client()
		equal(w, c.PoolStats().TotalConns, uint32(0))
		ok(w, c.Ping(w.ctx).Err())
		ok(w, c.Ping(w.ctx).Err())
		s := c.PoolStats()
		if s.TotalConns == 0 || s.Hits == 0 || s.Misses == 0 || s.Timeouts != 0 {
			w.Fatalf("after two commands: %+v", s)
		}
	}},
	{name: "options are readable and limits on idle connections harmless", check: func(w *world) {
		c := w.client(func(o *redis.Options) { o.MaxIdleConns, o.MinRetryBackoff = 1, 7*time.Millisecond })
		o := w.node(c).Options()
		equal(w, o.MinRetryBackoff, 7*time.Millisecond)
		if addr := w.target.Options().Addr; addr != "" {
			equal(w, o.Addr, addr)
		}
		each(w, 8, func(int) error { return c.Ping(w.ctx).Err() })
	}},
	{name: "MinIdleConns have it dialed before it is needed", check: func(w *world) {
		c := w.client(func(o *redis.Options) { o.MinIdleConns = 3 })
		w.eventually("an idle connection", func() bool { return c.PoolStats().IdleConns >= 1 })
		each(w, 8, func(i int) error {
			got, err := c.Echo(w.ctx, fmt.Sprint(i)).Result()
			return answer("ECHO", got, err, fmt.Sprint(i))
		})
	}},
	{name: "nobody listening is a dial error that says so", check: func(w *world) {
		// A fixed port that nobody has: a free one could be another test's by now.
		const addr = "127.0.0.1:1"
		c := w.client(func(o *redis.Options) {
			o.Network, o.Addr, o.MaxRetries, o.DialerRetries = "tcp", addr, -1, 1
		})
		err := c.Ping(w.ctx).Err()
		if err == nil || !strings.Contains(err.Error(), addr) {
			w.Fatalf("PING without a server: %v, want an error that names %s", err, addr)
		}
	}},
	{name: "AutoPipeline gives each caller its own reply", check: func(w *world) {
		ap, err := w.rdb.AutoPipeline()
		ok(w, err)
		each(w, 32, func(i int) error {
			for n := range 20 {
				v := fmt.Sprintf("%d.%d", i, n)
				if err := ap.Set(w.ctx, w.key(v), v, 0).Err(); err != nil {
					return err
				}
				got, err := ap.Get(w.ctx, w.key(v)).Result()
				if err := answer("GET", got, err, v); err != nil {
					return err
				}
			}
			return nil
		})
		ok(w, ap.Close())
		want(w, "31.19")(w.rdb.Get(w.ctx, w.key("31.19")).Result())
	}},
	{name: "AsyncAutoPipeline keeps a caller's order", check: func(w *world) {
		ap, err := w.rdb.AsyncAutoPipeline()
		ok(w, err)
		each(w, 8, func(i int) error {
			k := w.key(fmt.Sprint(i))
			var cmds []*redis.IntCmd
			for range 100 {
				cmds = append(cmds, ap.Incr(w.ctx, k))
			}
			for n, cmd := range cmds {
				if got, err := cmd.Result(); err != nil || got != int64(n+1) {
					return wrongf("INCR %d: got %d, error %v", n+1, got, err)
				}
			}
			return nil
		})
		ok(w, ap.Close())
	}},
}

// soonAgain has no pauses that matter between two tries: a closed cluster client looks
// for another node as often as MaxRedirects lets it before it tells that it is closed.
func soonAgain(o *redis.Options) {
	o.MinRetryBackoff, o.MaxRetryBackoff = time.Millisecond, time.Millisecond
}

// recorder is a hook that notes what passes it.
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (r *recorder) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, what)
}

func (r *recorder) has(what string) bool { return slices.Contains(r.all(), what) }

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

// DialHook implements redis.Hook.
func (r *recorder) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		r.note("dial")
		return next(ctx, network, addr)
	}
}

// ProcessHook implements redis.Hook.
func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err != nil {
			r.note(fmt.Sprint(cmd.Name(), " ", err))
		} else {
			r.note(cmd.Name())
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		names := []string{"pipeline"}
		for _, cmd := range cmds {
			names = append(names, cmd.Name())
		}
		r.note(strings.Join(names, " "))
		return next(ctx, cmds)
	}
}

// orderHook notes when a command enters and leaves it, and may replace its error.
type orderHook struct {
	name  string
	order *[]string
	err   error
}

// DialHook implements redis.Hook.
func (h orderHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h orderHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		*h.order = append(*h.order, h.name+">")
		err := next(ctx, cmd)
		*h.order = append(*h.order, h.name+"<")
		if h.err != nil && cmd.Name() == "echo" {
			return h.err
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h orderHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// limiter counts, and denies while it has an error to deny with.
type limiter struct {
	asked, told atomic.Int64
	deny        atomic.Pointer[error]
}

// Allow implements redis.Limiter.
func (l *limiter) Allow() error {
	if err := l.deny.Load(); err != nil {
		return *err
	}
	l.asked.Add(1)
	return nil
}

// ReportResult implements redis.Limiter.
func (l *limiter) ReportResult(error) { l.told.Add(1) }
