package otelhooks_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/otelhooks"
)

func TestACommandIsASpan(tt *testing.T) {
	t := newTester(tt)
	c, server := t.client(t.tracing())
	ctx, parent := t.tracers.Tracer("test").Start(t.ctx, "request")
	t.must(c.Set(ctx, "k", "v", 0).Err())
	s := t.one()
	t.want("name", s.Name, "SET")
	t.want("kind", s.SpanKind, trace.SpanKindClient)
	t.want("parent", s.Parent.SpanID(), parent.SpanContext().SpanID())
	t.want("attributes", attrsOf(s.Attributes), at(server.Addr(), "SET", nil))
	t.want("status", s.Status.Code, codes.Unset)
	t.want("scope", s.InstrumentationScope.Name, otelhooks.ScopeName)
	t.want("events", len(s.Events), 0)
}

func TestACommandIsNamedWithItsSubcommand(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client(t.tracing())
	c.Do(t.ctx, "client", "list")
	t.want("name", t.one().Name, "CLIENT LIST")
}

func TestABatchIsOneSpanWithItsSize(tt *testing.T) {
	t := newTester(tt)
	c, server := t.client(t.tracing())
	run := func(pipe redis.Pipeliner, fill func(redis.Pipeliner)) {
		t.Helper()
		fill(pipe)
		_, err := pipe.Exec(t.ctx)
		t.must(err)
	}
	for _, test := range []struct {
		name string
		pipe redis.Pipeliner
		fill func(redis.Pipeliner)
		more attrs
	}{
		{"PIPELINE SET", c.Pipeline(), func(p redis.Pipeliner) { p.Set(t.ctx, "a", 1, 0); p.Set(t.ctx, "b", 1, 0) }, attrs{"db.operation.batch.size": int64(2)}},
		{"PIPELINE", c.Pipeline(), func(p redis.Pipeliner) { p.Set(t.ctx, "a", 1, 0); p.Get(t.ctx, "b"); p.Get(t.ctx, "a") }, attrs{"db.operation.batch.size": int64(3)}},
		{"GET", c.Pipeline(), func(p redis.Pipeliner) { p.Get(t.ctx, "a") }, nil}, // no batch
		{"MULTI SET", c.TxPipeline(), func(p redis.Pipeliner) { p.Set(t.ctx, "a", 1, 0); p.Set(t.ctx, "b", 1, 0) }, attrs{"db.operation.batch.size": int64(2)}},
		{"MULTI", c.TxPipeline(), func(p redis.Pipeliner) { p.Set(t.ctx, "a", 1, 0); p.Incr(t.ctx, "b") }, attrs{"db.operation.batch.size": int64(2)}},
		{"MULTI INCR", c.TxPipeline(), func(p redis.Pipeliner) { p.Incr(t.ctx, "b") }, nil},
	} {
		run(test.pipe, test.fill)
		s := t.one()
		t.want("name", s.Name, test.name)
		t.want(test.name, attrsOf(s.Attributes), at(server.Addr(), test.name, test.more))
	}
}

func TestAnErrorIsItsTypeAndNotItsText(tt *testing.T) {
	t := newTester(tt)
	c, server := t.client(t.tracing())
	t.must(c.Set(t.ctx, "k", "v", 0).Err())
	t.take()
	if err := c.LPush(t.ctx, "k", "secret").Err(); err == nil {
		t.Fatal("LPUSH on a string succeeded")
	}
	s := t.one()
	t.want("attributes", attrsOf(s.Attributes), at(server.Addr(), "LPUSH", attrs{"error.type": "WRONGTYPE", "db.response.status_code": "WRONGTYPE"}))
	t.want("code", s.Status.Code, codes.Error)
	t.want("description", s.Status.Description, "WRONGTYPE")
	t.want("events", len(s.Events), 0)
}

func TestAnErrorThatIsNoReplyHasNoStatusCode(tt *testing.T) {
	t := newTester(tt)
	c, server := t.client(t.tracing())
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	if err := c.Get(ctx, "k").Err(); err == nil {
		t.Fatal("GET with a cancelled context succeeded")
	}
	s := t.one()
	// Nobody knows whether there was a server: it is told what the client was made for.
	t.want("attributes", attrsOf(s.Attributes), recorded(server.Addr(), "GET", attrs{"error.type": "canceled"}))
	t.want("description", s.Status.Description, "canceled")
	if s.EndTime.IsZero() {
		t.Error("a cancelled context leaves the span open")
	}
}

func TestAMissIsNoError(tt *testing.T) {
	t := newTester(tt)
	c, server := t.client(t.tracing())
	t.want("error", c.Get(t.ctx, "missing").Err(), error(redis.Nil))
	s := t.one()
	t.want("code", s.Status.Code, codes.Unset)
	t.want("attributes", attrsOf(s.Attributes), at(server.Addr(), "GET", attrs{"everpool.outcome": "miss"}))
}

// The peer's address is one, and that of a server that was reached.
func TestThePeerIsAnAddressThatAnswered(tt *testing.T) {
	t := newTester(tt)
	server := miniredis.RunT(tt)
	_, port, err := net.SplitHostPort(server.Addr())
	t.must(err)
	for name, test := range map[string]struct {
		addr string
		want any
	}{
		"an address":     {server.Addr(), "127.0.0.1"},
		"a name":         {"localhost:" + port, nil},
		"nobody answers": {"127.0.0.1:1", nil},
	} {
		c := redis.NewClient(&redis.Options{Addr: test.addr, MaxRetries: -1, DialerRetries: 1})
		defer c.Close()
		t.attach(c, t.tracing())
		c.Ping(t.ctx)
		got := attrsOf(t.one().Attributes)
		t.want(name, got["network.peer.address"], test.want)
		host, _, _ := net.SplitHostPort(test.addr)
		t.want(name+": server.address", got["server.address"], any(host))
	}
	// Of several nodes it is the one that has answered, by its name if it has no address.
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "localhost:" + port}})
	defer ring.Close()
	t.attach(ring, t.tracing())
	t.must(ring.Ping(t.ctx).Err())
	s := t.one()
	for what, got := range map[string]attrs{"span": attrsOf(s.Attributes), "event": attrsOf(s.Events[0].Attributes)} {
		t.want(what, []any{got["network.peer.address"], got["server.address"]}, []any{nil, "localhost"})
	}
}

func TestWhatIsNotInTheTableIsOther(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client(t.tracing(otelhooks.WithQueryText(true)))
	c.Do(t.ctx, "MY.SECRET", "argument")
	s := t.one()
	t.want("name", s.Name, "other")
	t.want("operation", attrsOf(s.Attributes)["db.operation.name"], any("other"))
	t.want("query", attrsOf(s.Attributes)["db.query.text"], any("other ?"))
	t.want("error", s.Status.Description, "ERR")
}

func TestScriptsAndFunctionsAreNamed(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client(t.tracing())
	const sha = "0123456789abcdef0123456789abcdef01234567"
	procedure := func() any { return attrsOf(t.one().Attributes)["db.stored_procedure.name"] }
	c.EvalSha(t.ctx, sha, nil)
	t.want("EVALSHA", procedure(), any(sha))
	c.FCall(t.ctx, "my_function", nil)
	t.want("FCALL", procedure(), any("my_function"))
	for _, secret := range []string{"return 'secret'", "pass word", "päss"} {
		c.Eval(t.ctx, secret, nil)
		t.want("EVAL", procedure(), nil)
		c.EvalSha(t.ctx, secret, nil)
		t.want("EVALSHA of something else", procedure(), nil)
		c.FCall(t.ctx, secret, nil)
		t.want("FCALL of something else", procedure(), nil)
	}
}

func TestOptionsOfSpans(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client(t.tracing(
		otelhooks.WithSpanName(func(op *hooks.Operation) string {
			if op.Name == "GET" {
				return ""
			}
			return "redis " + op.Name
		}),
		otelhooks.WithAttributes(func(op *hooks.Operation) []attribute.KeyValue {
			return []attribute.KeyValue{attribute.String("server.address", "prevails"), attribute.Int("commands", len(op.Cmds))}
		}),
	))
	c.Get(t.ctx, "k")
	c.Set(t.ctx, "k", "v", 0)
	spans := t.take()
	t.want("names", names(spans), []string{"GET", "redis SET"})
	got := attrsOf(spans[1].Attributes)
	t.want("server.address", got["server.address"], any("prevails"))
	t.want("commands", got["commands"], any(int64(1)))
	t.want("operation", got["db.operation.name"], any("SET"))
}

// A span that isn't made leaves the one in the context alone: that is the user's.
func TestWithoutASpanTheParentIsLeftAlone(tt *testing.T) {
	for name, observer := range map[string]func(*tester) hooks.Observer{
		"filtered": func(t *tester) hooks.Observer {
			return hooks.Filter(t.tracing(), func(*hooks.Operation) bool { return false })
		},
		"children": func(t *tester) hooks.Observer { return t.tracing(otelhooks.WithRootSpans(false)) },
	} {
		tt.Run(name, func(tt *testing.T) {
			t := newTester(tt)
			c, _ := t.client(observer(t))
			c.LPush(t.ctx, "list", 1)
			t.want("without a parent", len(t.take()), 0)
			ctx, parent := t.tracers.Tracer("test").Start(t.ctx, "request")
			c.Get(ctx, "list") // WRONGTYPE
			spans := t.take()
			if name == "children" {
				t.want("with a parent", names(spans), []string{"GET"})
			} else {
				t.want("with a parent", len(spans), 0)
			}
			parent.End()
			s := t.one()
			t.want("the parent's status", s.Status.Code, codes.Unset)
			t.want("the parent's attributes", len(s.Attributes), 0)
		})
	}
}

func TestAPanicOfTheUsersFunctionCostsTheSpanOnly(tt *testing.T) {
	t := newTester(tt)
	panics := t.tracing(otelhooks.WithSpanName(func(*hooks.Operation) string { panic("no name") }))
	c, _ := t.client(panics, t.metrics())
	ctx, parent := t.tracers.Tracer("test").Start(t.ctx, "request")
	t.must(c.Set(ctx, "k", "v", 0).Err())
	t.want("value", c.Get(ctx, "k").Val(), "v")
	t.want("spans", len(t.take()), 0)
	parent.End()
	t.want("the parent ends where its owner ends it", t.one().Name, "request")
	_, counts := t.durations()
	t.want("metrics", counts, []uint64{1, 1})
}

func TestASpanLastsAsLongAsTheOperation(tt *testing.T) {
	t := newTester(tt)
	var took []time.Duration
	c, _ := t.client(t.tracing(), hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) { took = append(took, op.Duration) }})
	c.Ping(t.ctx)
	s := t.one()
	t.want("duration", s.EndTime.Sub(s.StartTime), took[0])
}

func TestDetachEndsIt(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client()
	detach := t.attach(c, t.tracing(), t.metrics())
	c.Ping(t.ctx)
	detach()
	c.Ping(t.ctx)
	t.want("spans", names(t.take()), []string{"PING"})
	_, counts := t.durations()
	t.want("metrics", counts, []uint64{1})
}

func TestTwoClientsAreToldApart(tt *testing.T) {
	t := newTester(tt)
	tr, m := t.tracing(), t.metrics()
	a, serverA := t.client(tr, m)
	b, serverB := t.client(tr, m)
	a.Ping(t.ctx)
	t.want("a", attrsOf(t.one().Attributes), at(serverA.Addr(), "PING", nil))
	b.Ping(t.ctx)
	t.want("b", attrsOf(t.one().Attributes), at(serverB.Addr(), "PING", nil))
	all, _ := t.durations()
	t.want("metrics", len(all), 2)
}

func TestAHookThatIsOnlyAddedKnowsNoServer(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client()
	h, err := hooks.New(t.tracing())
	t.must(err)
	c.AddHook(h)
	c.Ping(t.ctx)
	t.want("attributes", attrsOf(t.one().Attributes), attrs{"db.system.name": "redis", "db.operation.name": "PING"})
}
