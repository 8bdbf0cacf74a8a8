package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
)

func TestBatchesAreNamedByWhatIsInThem(t *testing.T) {
	r := new(recorder)
	process := newHook(t, r).ProcessPipelineHook(answers())
	for _, c := range []struct {
		cmds []string
		kind hooks.Kind
		name string
		in   string // the commands without MULTI and EXEC
		all  string // Command
	}{
		{[]string{"get a"}, hooks.Single, "GET", "GET", "GET"}, // which is no batch
		{[]string{"get a", "GET b", "GeT c"}, hooks.Pipeline, "PIPELINE GET", "GET GET GET", "GET"},
		{[]string{"get a", "set b"}, hooks.Pipeline, "PIPELINE", "GET SET", ""},
		{[]string{"secret a", "Secret b"}, hooks.Pipeline, "PIPELINE other", "other other", "other"},
		{[]string{"secret a", "hidden b"}, hooks.Pipeline, "PIPELINE other", "other other", "other"},
		{[]string{"get a", "secret b"}, hooks.Pipeline, "PIPELINE", "GET other", ""},
		{[]string{"client list", "CLIENT List"}, hooks.Pipeline, "PIPELINE CLIENT LIST", "CLIENT LIST CLIENT LIST", "CLIENT LIST"},
		{[]string{"client list", "client id"}, hooks.Pipeline, "PIPELINE", "CLIENT LIST CLIENT ID", ""},
		{[]string{"client id", "client"}, hooks.Pipeline, "PIPELINE", "CLIENT ID other", ""},
		{[]string{"config get x", "client id"}, hooks.Pipeline, "PIPELINE", "CONFIG GET CLIENT ID", ""},
		{[]string{"command", "command docs"}, hooks.Pipeline, "PIPELINE", "COMMAND COMMAND DOCS", ""},
		{[]string{"command docs", "command"}, hooks.Pipeline, "PIPELINE", "COMMAND DOCS COMMAND", ""},
		{[]string{"multi", "set a", "exec"}, hooks.Transaction, "MULTI SET", "SET", "SET"},
		{[]string{"MULTI", "set a", "SET b", "Exec"}, hooks.Transaction, "MULTI SET", "SET SET", "SET"},
		{[]string{"multi", "set a", "get b", "exec"}, hooks.Transaction, "MULTI", "SET GET", ""},
		{[]string{"multi", "exec"}, hooks.Transaction, "MULTI", "", ""},
		{[]string{"multi", "select 1", "exec"}, hooks.Transaction, "MULTI SELECT", "SELECT", "SELECT"},
		{[]string{"multi"}, hooks.Single, "MULTI", "MULTI", "MULTI"},
		{[]string{"multi", "set a"}, hooks.Pipeline, "PIPELINE", "MULTI SET", ""},
		{[]string{"set a", "exec"}, hooks.Pipeline, "PIPELINE", "SET EXEC", ""},
		{[]string{"select 1", "get a"}, hooks.Pipeline, "PIPELINE", "SELECT GET", ""},
		{[]string{"get a", "select 1"}, hooks.Pipeline, "PIPELINE", "GET SELECT", ""},
	} {
		if err := process(t.Context(), batch(c.cmds...)); err != nil {
			t.Fatal(err)
		}
		op := r.one(t)
		all := ""
		if op.Command != nil {
			all = op.Command.Name
		}
		if op.Kind != c.kind || op.Name != c.name || strings.Join(op.Cmds, " ") != c.in || all != c.all {
			t.Errorf("%v: %s %q of %v, all %q; want %s %q of %s, all %q", c.cmds, op.Kind, op.Name, op.Cmds, all, c.kind, c.name, c.in, c.all)
		}
	}
	if got := fmt.Sprint(hooks.Single, hooks.Pipeline, hooks.Transaction, hooks.Kind(7)); got != "command pipeline transaction 7" {
		t.Error(got)
	}
	if err := process(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if ops, _ := r.take(); len(ops) != 0 {
		t.Errorf("an empty batch is %v", opNames(ops))
	}
}

func TestTheOutcomeOfABatchIsItsWorst(t *testing.T) {
	r := new(recorder)
	wrong, broken, miss := replied("WRONGTYPE x"), errors.New("broken"), fmt.Errorf("wrapped: %w", redis.Nil)
	for name, c := range map[string]struct {
		errs      []error
		outcome   hooks.Outcome
		err       error
		errorType string
	}{
		"all well":                      {nil, hooks.OK, nil, ""},
		"a miss":                        {[]error{redis.Nil}, hooks.Miss, nil, ""},
		"a miss at the end":             {[]error{nil, nil, miss}, hooks.Miss, nil, ""},
		"an error":                      {[]error{nil, wrong, nil}, hooks.Error, wrong, "WRONGTYPE"},
		"a miss, then an error":         {[]error{redis.Nil, nil, wrong}, hooks.Error, wrong, "WRONGTYPE"},
		"a miss, then another, then":    {[]error{miss, redis.Nil, broken}, hooks.Error, broken, "_OTHER"},
		"an error, then another":        {[]error{wrong, broken}, hooks.Error, wrong, "WRONGTYPE"},
		"a miss, then errors":           {[]error{redis.Nil, broken, wrong}, hooks.Error, broken, "_OTHER"},
		"the transaction didn't happen": {[]error{redis.TxFailedErr, redis.TxFailedErr, redis.TxFailedErr}, hooks.Error, redis.TxFailedErr, "tx_failed"},
	} {
		err := newHook(t, r).ProcessPipelineHook(answers(c.errs...))(t.Context(), batch("get a", "get b", "get c"))
		if len(c.errs) == 0 && err != nil || len(c.errs) > 0 && err == nil {
			t.Fatal(err)
		}
		if op := r.one(t); op.Outcome != c.outcome || !errors.Is(op.Err, c.err) || op.ErrorType != c.errorType {
			t.Errorf("%s: %+v", name, op)
		}
	}
}

func TestTheOutcomeOfACommand(t *testing.T) {
	r := new(recorder)
	for _, c := range []struct {
		err       error
		outcome   hooks.Outcome
		errorType string
	}{
		{nil, hooks.OK, ""},
		{redis.Nil, hooks.Miss, ""},
		{fmt.Errorf("wrapped: %w", redis.Nil), hooks.Miss, ""},
		{context.Canceled, hooks.Error, "canceled"},
		{replied("NOPERM x"), hooks.Error, "NOPERM"},
	} {
		err := newHook(t, r).ProcessHook(answering(c.err))(t.Context(), cmd("get", "k"))
		if err != c.err { //nolint:errorlint // it must come back as it was
			t.Errorf("%v became %v", c.err, err)
		}
		op := r.one(t)
		if op.Outcome != c.outcome || op.ErrorType != c.errorType || (op.Err != nil) != (c.outcome == hooks.Error) || op.Kind != hooks.Single || op.Name != "GET" {
			t.Errorf("%v: %+v", c.err, op)
		}
	}
}

func TestABatchOfARealServerFailsThoughItsFirstCommandOnlyMissed(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	rdb := client(t, &redis.Options{Addr: s.Addr})
	r := new(recorder)
	attach(t, rdb, r)
	ctx := t.Context()
	rdb.Set(ctx, "s", "v", 0)
	r.take()
	fill := func(p redis.Pipeliner) error {
		p.Get(ctx, "missing")
		p.LPush(ctx, "s", "x")
		p.Get(ctx, "s")
		return nil
	}
	_, _ = rdb.Pipelined(ctx, fill)
	if op := r.one(t); op.Name != "PIPELINE" || op.Outcome != hooks.Error || op.ErrorType != "WRONGTYPE" {
		t.Errorf("%+v", op)
	}
	_, _ = rdb.TxPipelined(ctx, fill)
	if op := r.one(t); op.Name != "MULTI" || op.Outcome != hooks.Error || op.ErrorType != "WRONGTYPE" || len(op.Cmds) != 3 {
		t.Errorf("%+v", op)
	}
	_, _ = rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "missing"); p.Get(ctx, "s"); return nil })
	if op := r.one(t); op.Name != "MULTI GET" || op.Outcome != hooks.Miss {
		t.Errorf("%+v", op)
	}
}

// The deferred face's commands are ready when their batch has ended: who looks at
// them before, as the hook does for a miss, must not wait for that.
func TestBatchesOfTheAutoPipelinerEnd(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	rdb := client(t, &redis.Options{Addr: s.Addr})
	r := new(recorder)
	attach(t, rdb, r)
	ctx := t.Context()
	rdb.Set(ctx, "s", "v", 0)
	r.take()
	ap, err := rdb.AsyncAutoPipeline()
	if err != nil {
		t.Fatal(err)
	}
	var all []redis.Cmder
	for range 20 {
		all = append(all, ap.Get(ctx, "missing"), ap.LPush(ctx, "s", "x"))
	}
	for i, c := range all {
		if want := i%2 == 1; (hooks.ErrorType(c.Err()) == "WRONGTYPE") != want {
			t.Errorf("%d: %v", i, c.Err())
		}
	}
	if err := ap.Close(); err != nil {
		t.Error(err)
	}
	ops, _ := r.take()
	if len(ops) == 0 {
		t.Error("no operation")
	}
	for _, op := range ops {
		if slices.Contains(op.Cmds, "LPUSH") != (op.Outcome == hooks.Error) {
			t.Errorf("%+v", op)
		}
	}
}

func TestRetriesArePartOfTheOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := testkit.NewFake()
		rdb := redis.NewClient(&redis.Options{Addr: "node:6379", Protocol: 2, Dialer: f.Dial, MaxRetries: 3, MinRetryBackoff: time.Second, MaxRetryBackoff: time.Second})
		r := new(recorder)
		attach(t, rdb, r)
		left := 2
		f.Handle("GET", func(*testkit.FakeConn, []string) []byte {
			if left--; left >= 0 {
				return []byte("-LOADING wait\r\n")
			}
			return []byte("+value\r\n")
		})
		start := time.Now()
		if v, err := rdb.Get(t.Context(), "k").Result(); v != "value" || err != nil {
			t.Errorf("%q %v", v, err)
		}
		if op := r.one(t); op.Outcome != hooks.OK || op.Duration == 0 || op.Duration != time.Since(start) || !op.Start.Equal(start) {
			t.Errorf("%+v", op)
		}
		_ = rdb.Close()
		f.Close()
	})
}

type label struct{}

// ordered writes down what it sees, and hands on its own context.
func ordered(name string, log *[]string, took *[]time.Duration, starts *[]time.Time) hooks.Observer {
	return hooks.Func{
		OnBegin: func(ctx context.Context, op *hooks.Operation) context.Context {
			before, _ := ctx.Value(label{}).(string)
			*log = append(*log, "begin "+name+" after "+before)
			if op.Duration != 0 || op.Outcome != hooks.OK || op.Err != nil || op.ErrorType != "" {
				*log = append(*log, fmt.Sprintf("something is left: %+v", op.Duration))
			}
			*starts = append(*starts, op.Start)
			return context.WithValue(ctx, label{}, before+name)
		},
		OnEnd: func(ctx context.Context, op *hooks.Operation) {
			*log = append(*log, fmt.Sprintf("end %s with %v", name, ctx.Value(label{})))
			*took, *starts = append(*took, op.Duration), append(*starts, op.Start)
		},
	}
}

func TestObserversNestAndGetTheirOwnContextsAndTheSameTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		var took []time.Duration
		var starts []time.Time
		h := newHook(t, ordered("a", &log, &took, &starts), hooks.Func{}, ordered("b", &log, &took, &starts),
			hooks.Filter(ordered("never", &log, &took, &starts), func(*hooks.Operation) bool { return false }),
			hooks.Func{OnBegin: func(context.Context, *hooks.Operation) context.Context { return nil }},
			ordered("c", &log, &took, &starts))
		run := func(ctx context.Context) error {
			log = append(log, fmt.Sprintf("run with %v", ctx.Value(label{})))
			time.Sleep(time.Second)
			return nil
		}
		want := []string{
			"begin a after ", "begin b after a", "begin c after ab", "run with abc",
			"end c with abc", "end b with ab", "end a with a",
		}
		for range 2 { // the second has the first one's frame
			log, took, starts = nil, nil, nil
			_ = h.ProcessHook(func(ctx context.Context, _ redis.Cmder) error { return run(ctx) })(t.Context(), cmd("get", "k"))
			if !slices.Equal(log, want) {
				t.Errorf("%q, want %q", log, want)
			}
			if len(took) != 3 || slices.Min(took) != time.Second || slices.Max(took) != time.Second {
				t.Errorf("durations %v", took)
			}
			for _, s := range starts {
				if !s.Equal(starts[0]) || s.IsZero() {
					t.Errorf("starts %v", starts)
				}
			}
		}
		log = nil
		_ = h.ProcessPipelineHook(func(ctx context.Context, _ []redis.Cmder) error { return run(ctx) })(t.Context(), batch("get a"))
		if !slices.Equal(log, want) {
			t.Errorf("batch: %q, want %q", log, want)
		}
	})
}

func TestAnObserverWhoseBeginReturnsNilGoesOnWithTheContextItGot(t *testing.T) {
	ended := false
	h := newHook(t, hooks.Func{OnBegin: func(ctx context.Context, _ *hooks.Operation) context.Context {
		return context.WithValue(ctx, label{}, "outer")
	}}, hooks.Func{
		OnBegin: func(context.Context, *hooks.Operation) context.Context { return nil },
		OnEnd:   func(ctx context.Context, _ *hooks.Operation) { ended = ctx.Value(label{}) == "outer" },
	})
	_ = h.ProcessHook(func(ctx context.Context, _ redis.Cmder) error {
		if ctx.Value(label{}) != "outer" {
			t.Error("the context is lost")
		}
		return nil
	})(t.Context(), cmd("get", "k"))
	if !ended {
		t.Error("its End isn't called with that context")
	}
}

func TestFilterDecidesOncePerOperation(t *testing.T) {
	r := new(recorder)
	asked := 0
	var verdicts []bool
	keep := func(*hooks.Operation) bool {
		asked++
		v := verdicts[0]
		verdicts = verdicts[1:]
		return v
	}
	inner := hooks.Filter(r, func(op *hooks.Operation) bool { return op.Name != "DEL" })
	process := newHook(t, hooks.Filter(inner, keep), hooks.Filter(new(recorder), nil)).ProcessHook(answering(nil))
	for _, c := range []struct {
		name    string
		verdict bool
		kept    int
	}{{"get", true, 1}, {"get", false, 0}, {"del", true, 0}, {"del", false, 0}, {"set", true, 1}} {
		asked, verdicts = 0, []bool{c.verdict, !c.verdict, !c.verdict}
		_ = process(t.Context(), cmd(c.name, "k"))
		begun := r.begun
		ops, _ := r.take()
		if asked != 1 || len(ops) != c.kept || begun != c.kept {
			t.Errorf("%s %v: asked %d times, %d begun, %d ended", c.name, c.verdict, asked, begun, len(ops))
		}
	}
}

func TestFilterWorksForAnObserverThatCallsIt(t *testing.T) {
	r := new(recorder)
	verdict := true
	f := hooks.Filter(r, func(*hooks.Operation) bool { return verdict })
	process := newHook(t, hooks.Func{
		OnBegin: func(ctx context.Context, op *hooks.Operation) context.Context {
			ctx = f.Begin(ctx, op)
			verdict = !verdict // too late
			return ctx
		},
		OnEnd: f.End,
	}).ProcessHook(answering(nil))
	_ = process(t.Context(), cmd("get", "k"))
	_ = process(t.Context(), cmd("set", "k"))
	if r.begun != 1 {
		t.Errorf("%d begun", r.begun)
	}
	if op := r.one(t); op.Name != "GET" {
		t.Errorf("%+v", op)
	}
}

func TestNewNamesAllThatIsWrong(t *testing.T) {
	many := make([]hooks.Observer, 17)
	for i := range many {
		many[i] = hooks.Func{}
	}
	if h, err := hooks.New(many[:16]...); err != nil || h == nil {
		t.Errorf("16: %v", err)
	}
	if h, err := hooks.New(); err != nil || h.ProcessHook(answering(nil))(t.Context(), cmd("get", "k")) != nil {
		t.Errorf("none: %v", err)
	}
	many[3], many[5] = nil, hooks.Filter(nil, func(*hooks.Operation) bool { return true })
	h, err := hooks.New(many...)
	if h != nil || err == nil {
		t.Fatalf("%v %v", h, err)
	}
	for _, want := range []string{"17 observers", "at most 16", "observer 3 is nil", "observer 5 is nil"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q doesn't say %q", err, want)
		}
	}
}

func TestTheTargetIsWhatTheClientWasMadeFor(t *testing.T) {
	target := func(c redis.UniversalClient) hooks.Target {
		t.Helper()
		defer c.Close()
		r := new(recorder)
		attach(t, c, r)
		c.AddHook(hooks.Adapter{Process: func(redis.ProcessHook) redis.ProcessHook { return answering(nil) }})
		c.Get(t.Context(), "k")
		op := r.one(t)
		if op.Peer != op.Target.Addr {
			t.Errorf("peer %q of %+v", op.Peer, op.Target)
		}
		return op.Target
	}
	of := func(o redis.Options) redis.UniversalClient {
		o.Protocol = 2 // for RESP3 go-redis looks the host up
		return redis.NewClient(&o)
	}
	for name, c := range map[string]struct {
		c    redis.UniversalClient
		want hooks.Target
	}{
		"default":  {of(redis.Options{}), hooks.Target{Network: "tcp", Addr: "localhost:6379", Host: "localhost", Port: 6379}},
		"database": {of(redis.Options{Addr: "h:7000", DB: 3}), hooks.Target{Network: "tcp", Addr: "h:7000", Host: "h", Port: 7000, DB: 3}},
		"IPv6":     {of(redis.Options{Addr: "[::1]:7000"}), hooks.Target{Network: "tcp", Addr: "[::1]:7000", Host: "::1", Port: 7000}},
		"unix":     {of(redis.Options{Addr: "/tmp/s.sock"}), hooks.Target{Network: "unix", Addr: "/tmp/s.sock", Host: "/tmp/s.sock"}},
		"odd unix": {of(redis.Options{Network: "unix", Addr: "s:1"}), hooks.Target{Network: "unix", Addr: "s:1", Host: "s:1"}},
		"service":  {of(redis.Options{Addr: "h:redis"}), hooks.Target{Network: "tcp", Addr: "h:redis", Host: "h"}},
		"too big":  {of(redis.Options{Addr: "h:65536"}), hooks.Target{Network: "tcp", Addr: "h:65536", Host: "h"}},
		"big":      {of(redis.Options{Addr: "h:65535"}), hooks.Target{Network: "tcp", Addr: "h:65535", Host: "h", Port: 65535}},
		"no port":  {of(redis.Options{Addr: "h"}), hooks.Target{Network: "tcp", Addr: "h", Host: "h"}},
		"failover": {redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"s:1"}, DB: 2, Protocol: 2}), hooks.Target{Network: "tcp", DB: 2}},
		"ring":     {redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "h:1"}, DB: 4, Protocol: 2}), hooks.Target{Network: "tcp", DB: 4}},
		"cluster":  {redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"h:1"}, Protocol: 2}), hooks.Target{Network: "tcp"}},
	} {
		if got := target(c.c); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestTransactionsConnectionsAndClonesAreWatched(t *testing.T) {
	s := miniredis.RunT(t)
	rdb := client(t, &redis.Options{Addr: s.Addr()})
	r := new(recorder)
	detach := attach(t, rdb, r)
	ctx := t.Context()
	wantOps := func(what string, want ...string) {
		t.Helper()
		ops, _ := r.take()
		if got := opNames(ops); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	err := rdb.Watch(ctx, func(tx *redis.Tx) error {
		tx.Get(ctx, "k")
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", "v", 0); return nil })
		return err
	}, "k")
	if err != nil {
		t.Error(err)
	}
	ops, _ := r.take()
	if got := opNames(ops); len(got) < 3 || !slices.Equal(got[:3], []string{"WATCH", "GET", "MULTI SET"}) {
		t.Errorf("Watch: %v", got) // go-redis may UNWATCH
	}
	conn := rdb.Conn()
	conn.Get(ctx, "k")
	conn.Close()
	wantOps("Conn", "GET")
	// go-redis gives WithTimeout's clones no hooks of their client: they are
	// clients of their own.
	clone := rdb.WithTimeout(time.Minute)
	clone.Get(ctx, "k")
	wantOps("WithTimeout")
	detachClone := attach(t, clone, r)
	clone.Get(ctx, "k")
	wantOps("WithTimeout, attached", "GET")
	rdb.Get(ctx, "k")
	wantOps("its client", "GET")
	detachClone()
	detach()
	detach()
	clone.Get(ctx, "k")
	rdb.Get(ctx, "k")
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
	wantOps("after detach")
}
