package driver_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// go-redis gives no command of a pipeline an error whose connection the server has refused.
func TestAPipelineThatIsRefusedItsConnectionFails(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		t.answers("-ERR DB index is out of range\r\n", "SELECT")
		rdb := t.client(func(o *redis.Options) { o.DB, o.MaxRetries = 99, 3 })
		t.gather(rdb)
		cmds, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Incr(t.Context(), "n")
			p.Get(t.Context(), "k")
			return nil
		})
		for _, err := range []error{err, cmds[0].Err(), cmds[1].Err()} {
			if !redis.HasErrorPrefix(err, "DB index") {
				t.Errorf("%v, of what never ran", err)
			}
		}
	})
}

// A batch for which no connection was made has sent nothing, whatever the reason.
func TestABatchThatWasNeverSentIsNotUnknown(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		mine := errors.New("the program's own")
		rdb := t.client(func(o *redis.Options) {
			o.OnConnect = func(context.Context, *redis.Conn) error {
				time.Sleep(time.Millisecond)
				return mine
			}
		})
		t.gather(rdb)
		for i, err := range t.crowd(8, func(int) error { return rdb.Incr(t.Context(), "n").Err() }) {
			if !errors.Is(err, mine) || errors.Is(err, pooler.ErrUnknownOutcome) {
				t.Errorf("caller %d: %v", i, err)
			}
		}
		if s := t.d.GatherStats(); s.Gathered == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// again is a hook that calls the client once more for each command, and for each handshake.
type again struct {
	redis.Hook
	rdb   *redis.Client
	calls atomic.Int64
	alien atomic.Int64 // calls of the hook without what the callers' contexts say
}

type (
	calledAgain struct{}
	callersOwn  struct{}
)

func (h *again) call(ctx context.Context) error {
	if ctx.Value(callersOwn{}) == nil {
		h.alien.Add(1)
	}
	if ctx.Value(calledAgain{}) != nil {
		return nil
	}
	h.calls.Add(1)
	return h.rdb.Incr(context.WithValue(ctx, calledAgain{}, true), "audit").Err()
}

func (h *again) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *again) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return errors.Join(h.call(ctx), next(ctx, cmd)) }
}

func (h *again) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return errors.Join(h.call(ctx), next(ctx, cmds)) }
}

// Nobody waits for a batch that waits for the caller: a hook's own calls in the handshake of the
// batch's connection aren't behind it.
func TestAHookThatCallsAgainWaitsForNoBatch(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		rdb := t.client()
		h := &again{rdb: rdb}
		rdb.AddHook(h)
		t.gather(rdb)
		ctx := context.WithValue(t.Context(), callersOwn{}, true)
		began := time.Now()
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for range 8 {
					if err := rdb.Incr(ctx, "n").Err(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v on a server that answers at once", took)
		}
		if s := t.d.GatherStats(); s.Gathered == 0 || h.calls.Load() < 256 || h.alien.Load() > 0 {
			t.Errorf("%+v, %d calls, %d without the callers' values", s, h.calls.Load(), h.alien.Load())
		}
	})
}

// As long as go-redis pauses between its tries: 8, 16 and 32 ms at least.
func TestARefusedPipelineIsGivenTime(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
		t.gather(rdb)
		tries := 0
		t.f.Handle("INCR", func(*testkit.FakeConn, []string) []byte { tries++; return []byte("-READONLY said by the test\r\n") })
		began := time.Now()
		_, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Incr(t.Context(), "n"); return nil })
		if took := time.Since(began); !redis.HasErrorPrefix(err, "READONLY") || tries != 4 || took < 56*time.Millisecond {
			t.Errorf("%d tries in %v: %v", tries, took, err)
		}
	})
}
