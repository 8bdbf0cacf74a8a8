package otelhooks_test

import (
	"context"
	"net"
	"strconv"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/codes"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/otelhooks"
)

// ring is a client of two servers, watched.
func (t *tester) ring(observers ...hooks.Observer) (*redis.Ring, map[string]bool) {
	t.Helper()
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": a.Addr(), "b": b.Addr()}})
	t.Cleanup(func() { ring.Close() })
	t.attach(ring, observers...)
	return ring, map[string]bool{a.Addr(): true, b.Addr(): true}
}

func TestAnAttemptIsAnEventOfTheSpan(tt *testing.T) {
	t := newTester(tt)
	ring, nodes := t.ring(t.tracing())
	t.must(ring.Set(t.ctx, "k", "v", 0).Err())
	s := t.one()
	got := attrsOf(s.Attributes)
	peer := net.JoinHostPort(got["network.peer.address"].(string), strconv.FormatInt(got["network.peer.port"].(int64), 10))
	if !nodes[peer] {
		t.Errorf("the peer is %s, want one of %v", peer, nodes)
	}
	t.want("server.address", got["server.address"], nil)
	if len(s.Events) != 1 {
		t.Fatalf("events: %v, want one", s.Events)
	}
	t.want("event", s.Events[0].Name, otelhooks.AttemptEvent)
	event := attrsOf(s.Events[0].Attributes)
	t.want("its peer", event["network.peer.port"], got["network.peer.port"])
	if d, ok := event["everpool.attempt.duration"].(float64); !ok || d <= 0 {
		t.Errorf("its duration is %v", event["everpool.attempt.duration"])
	}
	t.want("its error", event["error.type"], nil)
}

func TestAnAttemptThatFailsHasItsErrorsType(tt *testing.T) {
	t := newTester(tt)
	ring, _ := t.ring(t.tracing())
	t.must(ring.Set(t.ctx, "k", "v", 0).Err())
	t.take()
	ring.LPush(t.ctx, "k", "v")
	s := t.one()
	t.want("status", s.Status.Code, codes.Error)
	t.want("event", attrsOf(s.Events[0].Attributes)["error.type"], any("WRONGTYPE"))
}

func TestABatchOfARingIsOneSpanWithAnAttemptForEachNode(tt *testing.T) {
	t := newTester(tt)
	ring, nodes := t.ring(t.tracing(), t.metrics())
	pipe := ring.Pipeline()
	for i := range 64 {
		pipe.Set(t.ctx, strconv.Itoa(i), i, 0)
	}
	_, err := pipe.Exec(t.ctx)
	t.must(err)
	s := t.one()
	t.want("name", s.Name, "PIPELINE SET")
	t.want("size", attrsOf(s.Attributes)["db.operation.batch.size"], any(int64(64)))
	t.want("attempts", len(s.Events), len(nodes))
	sum := int64(0)
	for _, e := range s.Events {
		sum += attrsOf(e.Attributes)["db.operation.batch.size"].(int64)
	}
	t.want("sizes of the attempts", sum, int64(64))
	_, counts := t.durations()
	t.want("records", counts, []uint64{1})
}

// The event goes on the operation's span, whatever span is in the context: that of another
// operation, of the same tracing, too.
func TestAnAttemptOfAnOperationWithoutSpanIsNoEventOfTheParent(tt *testing.T) {
	t := newTester(tt)
	ring, _ := t.ring(hooks.Filter(t.tracing(), func(op *hooks.Operation) bool { return op.Name == "SET" }))
	ring.AddHook(hooks.Adapter{Process: func(next redis.ProcessHook) redis.ProcessHook {
		return func(ctx context.Context, cmd redis.Cmder) error {
			if cmd.Name() == "set" { // another operation in the course of this one
				ring.Get(ctx, "k")
			}
			return next(ctx, cmd)
		}
	}})
	ctx, parent := t.tracers.Tracer("test").Start(t.ctx, "request")
	t.must(ring.Set(ctx, "k", "v", 0).Err())
	ring.Get(ctx, "k")
	parent.End()
	spans := t.take()
	t.want("names", names(spans), []string{"SET", "request"})
	t.want("events of the operation around it", len(spans[0].Events), 1)
	t.want("events of the parent", len(spans[1].Events), 0)
}

func TestTwoTracingsOfARingEachHaveTheirOwnEvents(tt *testing.T) {
	t, other := newTester(tt), newTester(tt)
	ring, _ := t.ring(t.tracing(), other.tracing())
	t.must(ring.Set(t.ctx, "k", "v", 0).Err())
	t.want("the first's", len(t.one().Events), 1)
	t.want("the second's", len(other.one().Events), 1)
}
