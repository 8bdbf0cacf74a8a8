package gather

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/yielding"
	"github.com/everpool/everpool/pooler"
)

// server is what a chain ends with: it answers GET with "value of <key>", holds flights
// back that are to wait, and notes what it is asked.
type server struct {
	mu      sync.Mutex
	held    chan struct{} // not nil: what comes waits until it is closed
	singles []string
	batches [][]string
	answer  func(cmd redis.Cmder) error // nil: as said
	whole   func() error                // what the pipeline returns, not nil: nothing is answered
}

func (s *server) wait() {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held != nil {
		<-held
	}
}

func (s *server) reply(cmd redis.Cmder) error {
	if s.answer != nil {
		return s.answer(cmd)
	}
	switch cmd := cmd.(type) {
	case *redis.StringCmd:
		cmd.SetVal("value of " + cmd.Args()[1].(string))
	case *redis.IntCmd:
		cmd.SetVal(int64(len(cmd.Args()[1].(string))))
	}
	return nil
}

func line1(cmd redis.Cmder) string { return strings.Trim(fmt.Sprint(cmd.Args()), "[]") }

func (s *server) process(_ context.Context, cmd redis.Cmder) error {
	s.mu.Lock()
	s.singles = append(s.singles, line1(cmd))
	s.mu.Unlock()
	s.wait()
	if alone, ok := cmd.(once); ok {
		cmd = alone.Cmder
	}
	err := s.reply(cmd)
	cmd.SetErr(err)
	return err
}

func (s *server) pipeline(_ context.Context, cmds []redis.Cmder) error {
	var lines []string
	for _, cmd := range cmds {
		lines = append(lines, line1(cmd))
	}
	s.mu.Lock()
	s.batches = append(s.batches, lines)
	whole := s.whole
	s.mu.Unlock()
	if !slices.ContainsFunc(cmds, redis.Cmder.NoRetry) {
		panic("the pipeline may be run again")
	}
	s.wait()
	if whole != nil {
		return whole()
	}
	var first error
	for _, cmd := range cmds {
		as := cmd
		switch w := cmd.(type) {
		case once:
			as = w.Cmder
		case *head:
			as = w.Cmder
		}
		err := s.reply(as)
		cmd.SetErr(err)
		if first == nil {
			first = err
		}
	}
	return first
}

// hold holds back what comes from now on.
func (s *server) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = make(chan struct{})
}

// pass lets go of what is held back, but not of what comes then.
func (s *server) pass() {
	s.mu.Lock()
	held := s.held
	s.held = make(chan struct{})
	s.mu.Unlock()
	close(held)
	synctest.Wait()
}

// release lets go of all.
func (s *server) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.held)
	s.held = nil
}

// seen returns what came since it was last called.
func (s *server) seen() (singles []string, batches [][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	singles, batches = s.singles, s.batches
	s.singles, s.batches = nil, nil
	slices.Sort(singles)
	return singles, batches
}

// safe has what must not run twice apart.
func safe(a, b command.Effect) bool { return (a == command.Unsafe) == (b == command.Unsafe) }

func unknown(reason error) error { return errors.Join(pooler.ErrUnknownOutcome, reason) }

// newTestChain is a chain from 1 caller on, with one flight of each line.
func newTestChain(s *server, change ...func(*Config)) (*Gatherer, *chain) {
	cfg := Config{From: 1, Flights: 1, Largest: 100, Alike: safe, Unknown: unknown}
	for _, f := range change {
		f(&cfg)
	}
	g := New(cfg)
	c := newChain(g, s.process, retries{3, 8 * time.Millisecond, 512 * time.Millisecond})
	c.pipeline, c.whole = s.pipeline, true
	return g, c
}

// newCmd is a command with the type of result that it has in go-redis.
func newCmd(ctx context.Context, args ...any) redis.Cmder {
	switch args[0] {
	case "incr", "zadd":
		return redis.NewIntCmd(ctx, args...)
	case "set":
		return redis.NewStatusCmd(ctx, args...)
	}
	return redis.NewStringCmd(ctx, args...)
}

// call has the chain run a command.
func call(ctx context.Context, c *chain, args ...any) redis.Cmder {
	cmd := newCmd(ctx, args...)
	cmd.SetErr(c.do(ctx, cmd)) // as go-redis does
	return cmd
}

// crowd has one call take the flight of its line, and those of the keys wait, each after
// the other. The results are there when wait returns.
type crowd struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	cmds map[string]redis.Cmder
}

func (w *crowd) call(ctx context.Context, c *chain, args ...any) {
	w.wg.Go(func() {
		cmd := call(ctx, c, args...)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.cmds == nil {
			w.cmds = make(map[string]redis.Cmder)
		}
		w.cmds[fmt.Sprint(args...)] = cmd
	})
	synctest.Wait()
}

func (w *crowd) err(args ...any) error { return w.cmds[fmt.Sprint(args...)].Err() }

func (w *crowd) get(key string) string {
	return w.cmds["get"+key].(*redis.StringCmd).Val()
}

// busy is a chain whose only flight of commands that may run twice is held, by a GET of
// "first".
func busy(change ...func(*Config)) (*server, *crowd, *Gatherer, *chain) {
	s, w := new(server), new(crowd)
	g, c := newTestChain(s, change...)
	s.hold()
	w.call(background, c, "get", "first")
	return s, w, g, c
}

var background = context.Background()

// Commands that come while all flights are under way run together when one lands, and
// each caller has what came for its own.
func TestWhatComesMeanwhileRunsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		var w crowd
		g, c := newTestChain(&s)
		s.hold()
		for _, key := range []string{"first", "a", "b", "c"} {
			w.call(background, c, "get", key)
		}
		s.release()
		w.wg.Wait()
		singles, batches := s.seen()
		if !slices.Equal(singles, []string{"get first"}) || len(batches) != 1 || !slices.Equal(batches[0], []string{"get a", "get b", "get c"}) {
			t.Errorf("alone %q, together %q", singles, batches)
		}
		for _, key := range []string{"first", "a", "b", "c"} {
			if got := w.get(key); got != "value of "+key {
				t.Errorf("%s is %q", key, got)
			}
		}
		if n := g.Stats(); n.Calls != 4 || n.Gathered != 3 || n.Batches != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// No caller waits for more than the flight that is under way and its own, however many keep
// coming.
func TestNobodyWaitsForMoreThanTwoFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, _, c := busy()
		for round := range 5 {
			var came []string
			for i := range 3 + round {
				key := fmt.Sprint(round, ".", i)
				w.call(background, c, "get", key)
				came = append(came, "get "+key)
			}
			s.seen()
			s.pass()
			if singles, batches := s.seen(); len(singles) != 0 || len(batches) != 1 || !slices.Equal(batches[0], came) {
				t.Errorf("alone %q, together %q; %q have come", singles, batches, came)
			}
		}
		s.release()
		w.wg.Wait()
	})
}

// As many flights are under way at a time as the configuration says, and what comes meanwhile
// takes off when one of them lands, whichever.
func TestFlightsAreAsManyAsConfigured(t *testing.T) {
	for flights := 1; flights <= 3; flights++ {
		synctest.Test(t, func(t *testing.T) {
			s, w, _, c := busy(func(cfg *Config) { cfg.Flights = flights })
			for i := range 9 {
				w.call(background, c, "get", fmt.Sprint(i))
			}
			if singles, batches := s.seen(); len(singles) != flights || len(batches) != 0 {
				t.Errorf("%d flights: alone %q, together %q", flights, singles, batches)
			}
			s.pass()
			if singles, batches := s.seen(); len(singles) != 0 || len(batches) != 1 || len(batches[0]) != 10-flights {
				t.Errorf("%d flights, of which one has landed: alone %q, together %q", flights, singles, batches)
			}
			s.release()
			w.wg.Wait()
		})
	}
}

// Few callers go straight on, and it costs them nothing that must be collected.
func TestFewGoStraightOn(t *testing.T) {
	g, c := newTestChain(&server{}, func(cfg *Config) { cfg.From = 2 })
	done := 0
	c.process = func(context.Context, redis.Cmder) error { done++; return nil }
	cmd := redis.NewStringCmd(background, "get", "key")
	if n := testing.AllocsPerRun(100, func() { _ = c.do(background, cmd) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := g.Stats(); n.Calls != int64(done) || n.Gathered != 0 || done != 101 {
		t.Errorf("%d went on, of %+v", done, n)
	}
}

// What must not run twice is in no batch with what may.
func TestEffectsDontMix(t *testing.T) {
	all := []string{"get a", "set b v", "set c v EX 10", "set d v NX", "set e v GET", "incr f", "zadd g INCR 1 m", "zadd h 1 m"}
	for _, test := range []struct {
		name  string
		alike func(a, b command.Effect) bool
		want  [][]string
	}{
		{"safe", safe, [][]string{{"get a"}, {"set b v", "set c v EX 10", "zadd h 1 m"}, {"set d v NX", "set e v GET", "incr f"}}},
		{"none", func(a, b command.Effect) bool { return (a == command.Read) == (b == command.Read) }, [][]string{{"get a"}, {"set b v", "set c v EX 10", "set d v NX", "set e v GET", "incr f", "zadd h 1 m"}}},
		{"all", func(a, b command.Effect) bool { return true }, [][]string{{"get a"}, {"set b v", "set c v EX 10", "set d v NX", "set e v GET", "incr f", "zadd h 1 m"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, w, _, c := busy(func(cfg *Config) { cfg.Alike = test.alike })
				w.call(background, c, "incr", "first")
				w.call(background, c, "set", "first", "v")
				s.seen()
				var left []string
				for _, text := range all {
					var args []any
					for word := range strings.FieldsSeq(text) {
						args = append(args, word)
					}
					if args[0] == "zadd" && args[2] == "INCR" {
						continue // of another type
					}
					w.call(background, c, args...)
				}
				s.release()
				w.wg.Wait()
				_, batches := s.seen()
				got := make(map[string]int)
				for i, b := range batches {
					for _, text := range b {
						got[text] = i + 1
					}
				}
				for _, together := range test.want {
					for _, text := range together {
						if got[text] == 0 || got[text] != got[together[0]] {
							left = append(left, text)
						}
					}
				}
				if len(left) > 0 || got["set b v"] == got["get a"] || got["incr f"] == got["set b v"] && test.name == "safe" {
					t.Errorf("%q are in %q", left, batches)
				}
			})
		})
	}
}

// What could make others wait or spoil their replies goes straight on, and is counted.
func TestWhatIsNotGathered(t *testing.T) {
	type marshals struct{ redis.Cmder }
	many := make([]any, 100)
	many[0] = "mget"
	for i := range many[1:] {
		many[i+1] = "key"
	}
	for _, test := range []struct {
		name string
		cmd  redis.Cmder
		why  Reason
	}{
		{"blocking", redis.NewStringSliceCmd(background, "blpop", "key", 0), OtherCommand},
		{"slow", redis.NewStringSliceCmd(background, "keys", "*"), OtherCommand},
		{"script", redis.NewCmd(background, "eval", "return 1", 0), OtherCommand},
		{"unheard of", redis.NewCmd(background, "frobnicate", "key"), OtherCommand},
		{"transaction", redis.NewStatusCmd(background, "multi"), OtherCommand},
		{"no name", redis.NewCmd(background), OtherCommand},
		{"reply of another type", redis.NewIntCmd(background, "get", "key"), OtherResult},
		{"list where a string is expected", redis.NewStringCmd(background, "lpop", "key", 2), OtherResult},
		{"string where a list is expected", redis.NewStringSliceCmd(background, "RPOP", "key"), OtherResult},
		{"scores where there are none", redis.NewZSliceCmd(background, "zrange", "key", 0, -1), OtherResult},
		{"scores that aren't expected", redis.NewStringSliceCmd(background, "zrevrange", "key", 0, -1, []byte("WithScores")), OtherResult},
		{"a rank with its score", redis.NewIntCmd(background, "zrank", "key", "member", "withscore"), OtherResult},
		{"raw writer", redis.NewRawWriteToCmd(background, io.Discard, "get", "key"), OtherResult},
		{"type of the user's", marshals{redis.NewStringCmd(background, "get", "key")}, OtherResult},
		{"marshals itself", redis.NewStatusCmd(background, "set", "key", errors.New("text")), OtherArgument},
		{"pointer", redis.NewStatusCmd(background, "set", "key", new(int)), OtherArgument},
		{"bytes that may be used again", redis.NewStatusCmd(background, "set", "key", []byte("v")), OtherArgument},
		{"large", redis.NewStatusCmd(background, "set", "key", strings.Repeat("v", maxArgBytes)), Large},
		{"large bytes", redis.NewStatusCmd(background, "set", "key", make([]byte, maxArgBytes)), Large},
		{"many keys", redis.NewSliceCmd(background, many...), Large},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := server{answer: func(redis.Cmder) error { return nil }}
				var w crowd
				g, c := newTestChain(&s)
				s.hold()
				w.call(background, c, "get", "first")
				s.seen()
				ctx := background
				if strings.Contains(test.name, "again") {
					leaving, cancel := context.WithCancel(background)
					defer cancel()
					ctx = leaving
				}
				w.wg.Go(func() { _ = c.do(ctx, test.cmd) })
				synctest.Wait()
				singles, _ := s.seen() // at once, though the flight is taken
				s.release()
				w.wg.Wait()
				if n := g.Stats().Direct[test.why.String()]; len(singles) != 1 || n != 1 {
					t.Errorf("%q went straight on; %+v", singles, g.Stats())
				}
			})
		})
	}
}

// A caller whose context ends leaves at once. Before the take-off its command isn't
// sent; after it, it is told so unless it only reads. Nothing touches its command later.
func TestACallerLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		var w crowd
		_, c := newTestChain(&s)
		ctx, cancel := context.WithCancel(background)
		s.hold()
		for _, name := range []string{"get", "incr"} {
			w.call(background, c, name, "first")
			w.call(ctx, c, name, "before")
			w.call(background, c, name, "stays")
		}
		cancel()
		synctest.Wait()
		for _, name := range []string{"get", "incr"} {
			if err := w.err(name, "before"); !errors.Is(err, context.Canceled) || errors.Is(err, pooler.ErrUnknownOutcome) {
				t.Errorf("%s that was never sent: %v", name, err)
			}
		}

		s.pass() // the flights land, and the next ones are held
		if _, batches := s.seen(); len(batches) != 2 || len(batches[0]) != 1 || len(batches[1]) != 1 {
			t.Errorf("took off with %q", batches)
		}
		ctx, cancel = context.WithCancel(background)
		for _, name := range []string{"get", "incr"} {
			w.call(ctx, c, name, "after")
		}
		s.pass()
		cancel()
		synctest.Wait()
		if err := w.err("get", "after"); !errors.Is(err, context.Canceled) || errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("a read that was sent: %v", err)
		}
		if err := w.err("incr", "after"); !errors.Is(err, context.Canceled) || !errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("an INCR that was sent: %v", err)
		}
		cmd := w.cmds["getafter"].(*redis.StringCmd)
		cmd.SetVal("mine") // its caller may do with it what it likes
		s.release()
		w.wg.Wait()
		synctest.Wait() // its flight is over
		if cmd.Val() != "mine" || w.get("stays") != "value of stays" || w.get("first") != "value of first" {
			t.Errorf("%q, and those who stay have %q and %q", cmd.Val(), w.get("stays"), w.get("first"))
		}
	})
}

// A batch that all callers have left isn't flown, and the line goes on.
func TestABatchThatAllHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(background)
		s, w, _, c := busy()
		w.call(ctx, c, "get", "a")
		w.call(ctx, c, "get", "b")
		cancel()
		synctest.Wait()
		s.release()
		w.wg.Wait()
		w.call(background, c, "get", "next")
		if singles, batches := s.seen(); len(batches) != 0 || !slices.Equal(singles, []string{"get first", "get next"}) {
			t.Errorf("%q, %q", singles, batches)
		}
		if n := c.lines[0].now(); n != 0 {
			t.Errorf("%d flights are under way", n)
		}
	})
}

// Where all callers may leave, the batch is flown all the same, and Off waits for it.
func TestOffWaitsForFlightsThatCallersMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(background)
		s, w, g, c := busy()
		w.call(ctx, c, "get", "a")
		s.pass()
		cancel()
		synctest.Wait()
		off := make(chan struct{})
		go func() { g.Off(); close(off) }()
		synctest.Wait()
		select {
		case <-off:
			t.Error("Off has returned with a flight under way")
		default:
		}
		s.release()
		<-off
		w.wg.Wait()
		s.seen()
		w.call(background, c, "get", "later")
		w.call(background, c, "get", "later still")
		if singles, batches := s.seen(); len(singles) != 2 || len(batches) != 0 {
			t.Errorf("after Off: %q, %q", singles, batches)
		}
	})
}

// Off waits for what a caller flies, too, since others may have left it; and nothing is
// gathered once it has returned.
func TestOffWaitsForFlightsOfCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(background)
		s, w, g, c := busy()
		w.call(background, c, "get", "flies")
		w.call(ctx, c, "get", "leaves")
		s.pass()
		cancel()
		off := make(chan struct{})
		go func() { g.Off(); close(off) }()
		synctest.Wait()
		select {
		case <-off:
			t.Error("Off has returned with a batch under way")
		default:
		}
		s.release()
		<-off
		w.wg.Wait()
		if b, at := c.lines[0].board(t.Context(), redis.NewStringCmd(ctx, "get", "late"), true); b != nil || at != refused {
			t.Error("a batch was begun after Off")
		}
	})
}

// What has come is told even if the context has ended by then.
func TestWhatIsOverIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(background)
	cancel()
	b := &batch{cmds: []redis.Cmder{nil}, off: true, over: make(chan struct{})}
	close(b.over)
	_, c := newTestChain(&server{})
	for range 100 {
		if err := c.lines[0].await(ctx, b, 0, command.Unsafe); err != nil {
			t.Fatal(err)
		}
	}
}

// After an error after which go-redis tries a single command again, each goes on alone;
// after any other its caller is told.
func TestWhatGoesOnAlone(t *testing.T) {
	loading := redisError("LOADING Redis is loading the dataset in memory")
	for _, test := range []struct {
		name  string
		err   error
		again bool
	}{
		{"refused for now", loading, true},
		{"lost", fmt.Errorf("lost: %w", io.EOF), true},
		{"never sent", &pooler.Error{Err: pooler.ErrWaitTimeout}, true},
		{"to be sent elsewhere", fmt.Errorf("of the driver: %w", &pooler.Error{Err: pooler.ErrElsewhere}), true},
		{"down", &pooler.Error{Err: pooler.ErrNodeDown}, false},
		{"none", redis.Nil, false},
		{"refused", redisError("WRONGTYPE Operation against a key"), false},
		{"moved", redisError("MOVED 1 127.0.0.1:1"), false},
		{"unknown", unknown(io.ErrClosedPipe), false},
		{"late", context.DeadlineExceeded, false},
		{"closed", redis.ErrClosed, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, w, _, c := busy()
				w.call(background, c, "get", "a")
				w.call(background, c, "get", "b")
				s.seen()
				s.whole = func() error { return test.err }
				s.release()
				w.wg.Wait()
				singles, batches := s.seen()
				if len(batches) != 1 || (len(singles) == 2) != test.again || len(singles) > 2 {
					t.Errorf("%q together, %q alone", batches, singles)
				}
				if err := w.err("get", "a"); test.again != (err == nil) || err != nil && !errors.Is(err, test.err) {
					t.Errorf("told %v", err)
				}
			})
		})
	}
}

// Where a cluster's or a ring's client has to try again, it is told of what was never sent
// as a single command is: it does so after the error of a dial.
func TestWhatWasNeverSentIsToldAsOfASingleCommand(t *testing.T) {
	for _, test := range []struct {
		word error
		late bool
	}{{pooler.ErrWaitTimeout, true}, {pooler.ErrElsewhere, false}} {
		synctest.Test(t, func(t *testing.T) {
			s, w, _, c := busy()
			c.retries.most = 0
			w.call(background, c, "get", "a")
			s.whole = func() error { return &pooler.Error{Err: test.word, Node: "127.0.0.1:1"} }
			s.release()
			w.wg.Wait()
			err := w.err("get", "a")
			op, ok := errors.AsType[*net.OpError](err)
			if !ok || op.Op != "dial" || op.Timeout() != test.late || errors.Is(err, redis.ErrPoolTimeout) != test.late || !errors.Is(err, test.word) {
				t.Errorf("%v: told %#v", test.word, err)
			}
		})
	}
}

// A command that is refused again and again has as many tries as go-redis has for it, the
// one in the batch among them.
func TestTriesAreAsManyAsGoRedisHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, _, c := busy()
		w.call(background, c, "get", "a")
		s.seen()
		loading := redisError("LOADING Redis is loading the dataset in memory")
		s.answer = func(redis.Cmder) error { return loading }
		s.release()
		w.wg.Wait()
		singles, batches := s.seen()
		if len(batches) != 1 || len(singles) != c.retries.most {
			t.Errorf("%q together, %q alone; want %d tries", batches, singles, 1+c.retries.most)
		}
		if err := w.err("get", "a"); !errors.Is(err, loading) {
			t.Errorf("told %v", err)
		}
	})
}

// A caller whose context ends between two tries is told so.
func TestACallerLeavesBetweenTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(background)
		s, w, _, c := busy()
		c.retries.min, c.retries.max = time.Hour, time.Hour
		w.call(ctx, c, "get", "a")
		s.answer = func(redis.Cmder) error { return redisError("LOADING") }
		s.whole = func() error { return redisError("LOADING Redis is loading the dataset in memory") }
		s.release()
		synctest.Wait()
		cancel()
		w.wg.Wait()
		if err := w.err("get", "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("told %v", err)
		}
	})
}

type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

// Where go-redis tries nothing again, as in a cluster, nothing is tried.
func TestNothingIsTriedAgainWhereGoRedisDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		var w crowd
		_, c := newTestChain(&s)
		c.retries.most = 0
		s.hold()
		w.call(background, c, "get", "first")
		w.call(background, c, "get", "a")
		s.whole = func() error { return io.EOF }
		s.seen()
		s.release()
		w.wg.Wait()
		if singles, _ := s.seen(); len(singles) != 0 || !errors.Is(w.err("get", "a"), io.EOF) {
			t.Errorf("%q alone; told %v", singles, w.err("get", "a"))
		}
	})
}

// What a server refuses for now is tried again for each caller alone, with all the words that
// go-redis does that for; what it refuses for good isn't.
func TestWhatIsRefusedForNowIsTriedAgain(t *testing.T) {
	for refusal, want := range map[string]int{
		"LOADING Redis is loading": 1, "READONLY You can't write": 1, "MASTERDOWN Link with MASTER is down": 1, "CLUSTERDOWN The cluster is down": 1,
		"TRYAGAIN Multiple keys": 1, "NOREPLICAS Not enough": 1, "ERR max number of clients reached": 1,
		"ERR something": 0, "WRONGTYPE Operation": 0, "MOVED 1 a:1": 0,
	} {
		synctest.Test(t, func(t *testing.T) {
			s, w, _, c := busy()
			var refused bool
			s.answer = func(cmd redis.Cmder) error {
				if cmd.Args()[1] == "it" && !refused {
					refused = true
					return redisError(refusal)
				}
				return nil
			}
			w.call(background, c, "get", "it")
			w.call(background, c, "get", "other")
			s.release()
			w.wg.Wait()
			singles, batches := s.seen()
			alone := len(slices.DeleteFunc(singles, func(line string) bool { return line != "get it" }))
			if err := w.err("get", "it"); alone != want || len(batches) != 1 || (err == nil) != (want == 1) {
				t.Errorf("after %q it ran %d times more alone, %q together; %v", refusal, alone, batches, err)
			}
		})
	}
}

// A chain whose end isn't known, of a go-redis that isn't, gathers nothing.
func TestAnUnknownEndIsNotGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := new(server), new(crowd)
		_, c := newTestChain(s)
		if c.end(s.pipeline); c.whole {
			t.Fatal("functions that aren't go-redis's pass for the end of its chain")
		}
		s.hold()
		for _, key := range []string{"a", "b", "c"} {
			w.call(background, c, "get", key)
		}
		s.release()
		w.wg.Wait()
		if singles, batches := s.seen(); len(singles) != 3 || len(batches) != 0 {
			t.Errorf("alone %q, together %q", singles, batches)
		}
	})
}

// A command whose reply wasn't read since another's was not what it should be may have
// run.
func TestAnothersBadReplyLeavesOutcomesUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		var w crowd
		_, c := newTestChain(&s)
		s.hold()
		for _, name := range []string{"get", "incr"} {
			w.call(background, c, name, "first")
			w.call(background, c, name, "a")
		}
		s.whole = func() error { return errors.New("redis: can't parse int reply") }
		s.release()
		w.wg.Wait()
		if err := w.err("get", "a"); err == nil || errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("a read: %v", err)
		}
		if err := w.err("incr", "a"); !errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("an INCR: %v", err)
		}
	})
}

// A key whose reply was large goes straight on until it is small again, and so do keys
// that begin like several such.
func TestLargeRepliesGoStraightOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g, c := newTestChain(&s)
		size := map[string]int{"big": largeReply + 1, "img:1": largeReply + 1, "img:2": largeReply + 1, "img:3": largeReply + 1}
		s.answer = func(cmd redis.Cmder) error {
			cmd.(*redis.StringCmd).SetVal(strings.Repeat("v", size[cmd.Args()[1].(string)]))
			return nil
		}
		// together reports whether the key's GET is gathered beside others.
		together := func(key string) bool {
			var w crowd
			s.hold()
			w.call(background, c, "get", "first")
			before := g.Stats().Direct["large"]
			w.call(background, c, "get", key)
			s.release()
			w.wg.Wait()
			return g.Stats().Direct["large"] == before
		}
		for _, step := range []struct {
			key      string
			together bool
		}{
			{"big", true}, {"big", false}, {"small", true}, {"img:1", true}, {"img:2", true}, {"img:3", false}, {"img:4", false}, {"img:5", false}, {"img:6", true},
		} {
			if got := together(step.key); got != step.together {
				t.Errorf("%s is gathered: %t", step.key, got)
			}
		}
		size["big"] = 1
		if together("big") || !together("big") {
			t.Error("a key that is small again isn't gathered again")
		}
	})
}

// Flights that stand still keep nobody waiting for long: others take their place, fewer
// and fewer; and when they come back all is as before.
func TestFlightsThatStandStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, _, c := busy(func(cfg *Config) { cfg.Largest = 5000 })
		for i := range 3000 {
			w.wg.Go(func() { call(background, c, "get", fmt.Sprint(i)) })
			time.Sleep(time.Millisecond)
		}
		_, batches := s.seen()
		if len(batches) < 8 || len(batches) > 20 {
			t.Errorf("%d batches took off in 3 s in which nothing landed", len(batches))
		}
		if len(batches) > 0 && len(batches[0]) > 3 {
			t.Errorf("the first of them has waited for %d commands", len(batches[0]))
		}
		s.release()
		w.wg.Wait()
		synctest.Wait()
		for range telling {
			call(background, c, "get", "key") // the server is near again
		}
		if n, aloft := c.lines[0].flying, c.lines[0].aloft; n != 0 || aloft != 0 {
			t.Errorf("%d flights and %d commands are under way", n, aloft)
		}
		s.seen()
		s.hold()
		for _, key := range []string{"one", "two", "three"} {
			w.call(background, c, "get", key)
		}
		s.release()
		w.wg.Wait()
		if singles, batches := s.seen(); len(singles) != 1 || len(batches) != 1 {
			t.Errorf("afterwards %q alone, %q together", singles, batches)
		}
	})
}

// Commands for a server that is far don't wait for flights that are on their way, nor does a
// flight for any but those who board at once. Flights that stand still are few there, too, and
// once the server is near again commands wait for each other.
func TestNobodyWaitsForFarFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, _, c := busy()
		get := func(keys ...string) (batches [][]string) {
			for _, key := range keys {
				w.call(background, c, "get", key)
			}
			_, batches = s.seen()
			return batches
		}
		if batches := get("a", "b"); len(batches) != 0 {
			t.Errorf("%q took off beside the first flight to a server that may be near", batches)
		}
		for range telling {
			time.Sleep(patience / 2)
			s.pass()
			get("c")
		}
		if batches := get("d"); len(batches) != 1 {
			t.Errorf("%q took off at once beside flights to a server that is far", batches)
		}
		for i := range mostFar + 50 {
			get(fmt.Sprint(i))
		}
		if n := c.lines[0].now(); n != mostFar {
			t.Errorf("%d flights stand still; want %d", n, mostFar)
		}
		s.release()
		w.wg.Wait()
		for range telling {
			call(background, c, "get", "key")
		}
		s.hold()
		get("e")
		if batches := get("f", "g"); len(batches) != 0 {
			t.Errorf("%q took off beside a flight to a server that is near", batches)
		}
		s.release()
		w.wg.Wait()
	})
}

// A flight to a far server takes those along who could board by now.
func TestAFlightToAFarServerTakesItsCompanyAlong(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // who begins a batch runs before the others
	synctest.Test(t, func(t *testing.T) {
		s, w, _, c := busy()
		c.lines[0].pace.far = true
		s.seen()
		for i := range 10 {
			w.wg.Go(func() { call(background, c, "get", fmt.Sprint(i)) })
		}
		synctest.Wait()
		if _, batches := s.seen(); len(batches) != 1 || len(batches[0]) != 10 {
			t.Errorf("%q; want one batch", batches)
		}
		s.release()
		w.wg.Wait()
	})
}

// Beside goroutines that compute no flight waits for company: each of them has its processor
// for 10 ms.
func TestNoFlightYieldsToWhatComputes(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		s, w, _, c := busy()
		c.lines[0].pace.far = true
		yields, clock := 0, time.Duration(1)
		now := func() time.Duration { return clock }
		c.g.yields = yielding.With(now, now, func() {
			yields++
			clock += 10 * time.Millisecond
		})
		for range 5 { // each at least a batch, that asks twice
			for range 10 {
				w.wg.Go(func() { call(background, c, "get", "key") })
			}
			synctest.Wait()
		}
		s.release()
		w.wg.Wait()
		if yields != 2 {
			t.Errorf("%d yields, want two, the second to see that it is this program that computes", yields)
		}
	})
}

// A batch that has taken off for another reason isn't followed at once by the one that
// gathers after it.
func TestCompanyIsOfOneBatch(t *testing.T) {
	var l line
	gone, gathers := new(batch), new(batch)
	l.open = gathers
	if b := l.departing(gone); b != nil || l.open != gathers {
		t.Error("another batch has taken off")
	}
}

// A server is far by the quickest of 16 flights, besides the work for what is under way:
// many commands make it neither far nor near.
func TestWhatIsFar(t *testing.T) {
	const us = time.Microsecond
	for _, tt := range []struct {
		took, quickest time.Duration
		commands       int
		far            bool
	}{
		{150 * us, 150 * us, 1, false},
		{250 * us, 250 * us, 1, true},
		{250 * us, 150 * us, 1, false},
		{100*us + 500*us*13/10, 100*us + 500*us*13/10, 500, false},
		{time.Millisecond, time.Millisecond, 200, true},
		{time.Millisecond, time.Millisecond, 500, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, c := newTestChain(new(server))
			l := &c.lines[0]
			for i := range telling {
				took := tt.took
				if i == telling/2 {
					took = tt.quickest
				}
				b := new(batch)
				l.mu.Lock()
				l.takeOffLocked(b, tt.commands)
				l.mu.Unlock()
				time.Sleep(took)
				l.land(b, tt.commands)
			}
			if l.pace.far != tt.far {
				t.Errorf("after flights of %d commands that took %s, one of them %s: far is %v", tt.commands, tt.took, tt.quickest, l.pace.far)
			}
		})
	}
}

// A flight that has stood still while another took its place isn't followed by a third.
func TestALateFlightEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, _, c := busy()
		w.call(background, c, "get", "a")
		time.Sleep(2 * time.Millisecond) // a has taken off
		if n := c.lines[0].now(); n != 2 {
			t.Fatalf("%d flights", n)
		}
		w.call(background, c, "get", "b")
		s.pass()
		if n := c.lines[0].now(); n != 1 {
			t.Errorf("%d flights after both have landed late, with one command to come", n)
		}
		s.release()
		w.wg.Wait()
	})
}

// now is how many flights are under way.
func (l *line) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flying
}

// A batch that is full takes off at once, and the line goes on as before when all have
// landed.
func TestAFullBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, g, c := busy(func(cfg *Config) { cfg.Largest = 2 })
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			w.call(background, c, "get", key)
		}
		want := [][]string{{"get a", "get b"}, {"get c", "get d"}}
		if singles, batches := s.seen(); len(singles) != 1 || !slices.EqualFunc(batches, want, slices.Equal) {
			t.Errorf("%q alone, %q together, while nothing has landed", singles, batches)
		}
		s.release()
		w.wg.Wait()
		synctest.Wait()
		if _, batches := s.seen(); len(batches) != 1 || c.lines[0].now() != 0 || g.Stats().Gathered != 5 {
			t.Errorf("%q afterwards, %d flights are under way, %+v", batches, c.lines[0].now(), g.Stats())
		}
	})
}

// A batch is full, too, when the replies to it are going to be as much as a server's output
// buffer should have to take at once.
func TestABatchIsFullOfReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers, size = 90, 8 << 10
		s := server{answer: func(cmd redis.Cmder) error {
			cmd.(*redis.StringCmd).SetVal(strings.Repeat("v", size))
			return nil
		}}
		_, c := newTestChain(&s)
		for range 200 { // the chain learns how large replies are
			call(background, c, "get", "key")
		}
		for range 2 {
			var w crowd
			s.seen()
			s.hold()
			for i := range callers {
				w.call(background, c, "get", fmt.Sprint("key:", i))
			}
			s.release()
			w.wg.Wait()
			synctest.Wait()
			_, batches := s.seen()
			n := 0
			for _, batch := range batches {
				n += len(batch)
				if len(batch)*size > fullOfReplies*5/4 {
					t.Errorf("a batch of %d", len(batch))
				}
			}
			if n < callers/2 || len(batches) > 8 {
				t.Errorf("%d commands in %d batches", n, len(batches))
			}
		}
	})
}

// A full batch that lands while others are under way isn't followed by another: flights
// would stay more than they should be.
func TestAFullBatchIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, _, c := busy(func(cfg *Config) { cfg.Largest = 2 })
		first := s.held
		s.hold() // what comes from now on, apart from the first flight
		w.call(background, c, "get", "a")
		w.call(background, c, "get", "b")
		w.call(background, c, "get", "c")
		s.pass()
		if n := c.lines[0].now(); n != 1 {
			t.Errorf("%d flights, with the first still under way", n)
		}
		close(first)
		synctest.Wait()
		if n := c.lines[0].now(); n != 1 {
			t.Errorf("%d flights when what has gathered should have taken off", n)
		}
		s.release()
		w.wg.Wait()
	})
}

// Callers that call again in a loop are in one batch, not in two by turns. Who has lost the
// processor to another program on the way back comes late, and the batches are thin from there
// on: it takes one crowd to whom that doesn't happen.
func TestCallersThatComeBackAreTogether(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // who is woken runs before who yields
	const callers, calls = 20, 20
	var said []string
	for range 25 {
		var s server
		g, c := newTestChain(&s)
		c.lines[0].armed = true // no flight for having waited long
		s.hold()
		var w crowd
		for range callers {
			w.wg.Go(func() {
				for range calls {
					call(background, c, "get", "key")
				}
			})
		}
		awaitWaiting(t, &c.lines[0], callers-1)
		s.release()
		w.wg.Wait()
		n := g.Stats()
		if n.Gathered >= n.Batches*(callers-5) {
			return
		}
		said = append(said, fmt.Sprintf("%d in %d", n.Gathered, n.Batches))
	}
	t.Errorf("commands in batches of %d callers: %s", callers, strings.Join(said, ", "))
}

// Callers who are together now and then only go straight on, until it's worth another
// try; those who fill batches go on being gathered.
func TestThinBatchesRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g, c := newTestChain(&s, func(cfg *Config) { cfg.Worth = 2 })
		// flights has as many flights of n commands.
		flights := func(flights, n int) {
			for range flights {
				l := &c.lines[0]
				l.mu.Lock()
				b := new(batch)
				l.takeOffLocked(b, n)
				l.mu.Unlock()
				l.land(b, n)
			}
		}
		get := func(calls int) (thin int64) {
			before := g.Stats().Direct["thin"]
			for range calls {
				call(background, c, "get", "key")
			}
			return g.Stats().Direct["thin"] - before
		}
		flights(telling, 2)
		if n := get(1); n != 0 {
			t.Errorf("%d went straight on after batches of 2", n)
		}
		flights(telling-2, 1) // with that call, as of the few writes of callers who mostly read
		flights(1, 10)
		if n := get(1); n != 0 {
			t.Errorf("%d went straight on where most commands were in a batch of 10", n)
		}
		flights(telling, 1)
		if n := get(restCalls + 1); n != restCalls {
			t.Errorf("%d went straight on after batches of 1; want %d", n, restCalls)
		}
	})
}

// A panic below is one of the callers', be the batch flown by one of them or not, and
// ends the calls of the others with an error; the line goes on.
func TestAPanicEndsOneBatch(t *testing.T) {
	for _, mayLeave := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx := background
			if mayLeave {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(background)
				defer cancel()
			}
			s, w, _, c := busy()
			s.whole = func() error { panic("below") }
			var panics, failures atomic.Int64
			for _, key := range []string{"a", "b", "c"} {
				w.wg.Go(func() {
					defer func() {
						if r := recover(); r != nil && strings.HasPrefix(fmt.Sprint(r), "below, ") {
							panics.Add(1)
						}
					}()
					if call(ctx, c, "get", key).Err() != nil {
						failures.Add(1)
					}
				})
			}
			synctest.Wait()
			s.release()
			w.wg.Wait()
			if panics.Load() != 1 || failures.Load() != 2 {
				t.Errorf("%d panicked, %d were told (callers may leave: %t)", panics.Load(), failures.Load(), mayLeave)
			}
			s.whole = nil
			w.call(background, c, "get", "next")
			if w.get("next") != "value of next" {
				t.Error("the line is closed")
			}
		})
	}
}

// A pipeline whose first command was refused for now is run again as far as it was
// refused, and no INCR twice.
func TestAPipelineIsRunAgainAsFarAsItWasRefused(t *testing.T) {
	loading := redisError("LOADING Redis is loading the dataset in memory")
	for _, test := range []struct {
		name string
		cmds string
		fail func(try int, line string) error
		want [][]string
		err  error
	}{
		{
			"all refused", "incr a,get b", func(try int, _ string) error { return unless(try > 0, loading) },
			[][]string{{"incr a", "get b"}, {"incr a", "get b"}},
			nil,
		},
		{
			"some refused", "set s v,incr a,get b,incr c", func(try int, line string) error { return unless(try > 0 || line == "incr a", loading) },
			[][]string{{"set s v", "incr a", "get b", "incr c"}, {"set s v", "get b", "incr c"}},
			nil,
		},
		{
			"only a later one refused", "incr a,get b", func(_ int, line string) error { return unless(line == "incr a", loading) },
			[][]string{{"incr a", "get b"}},
			loading,
		},
		{
			"a later one refused again", "incr a,incr b", func(try int, line string) error { return unless(try > 0 && line == "incr a", loading) },
			[][]string{{"incr a", "incr b"}, {"incr a", "incr b"}},
			loading,
		},
		{
			"refused for good", "incr a,get b", func(int, string) error { return redisError("WRONGTYPE") },
			[][]string{{"incr a", "get b"}},
			redisError("WRONGTYPE"),
		},
		{
			"refused again and again", "incr a", func(int, string) error { return loading },
			[][]string{{"incr a"}, {"incr a"}, {"incr a"}, {"incr a"}},
			loading,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s server
				_, c := newTestChain(&s)
				try := 0
				s.answer = func(cmd redis.Cmder) error { return test.fail(try, line1(cmd)) }
				inner := c.pipeline
				c.pipeline = func(ctx context.Context, cmds []redis.Cmder) error {
					defer func() { try++ }()
					return inner(ctx, cmds)
				}
				var cmds []redis.Cmder
				for text := range strings.SplitSeq(test.cmds, ",") {
					var args []any
					for word := range strings.FieldsSeq(text) {
						args = append(args, word)
					}
					cmds = append(cmds, newCmd(background, args...))
				}
				err := c.doPipeline(background, cmds)
				if _, batches := s.seen(); !slices.EqualFunc(batches, test.want, slices.Equal) || !errors.Is(err, test.err) {
					t.Errorf("ran %q, told %v", batches, err)
				}
			})
		})
	}
}

func unless(well bool, err error) error {
	if well {
		return nil
	}
	return err
}

// The table agrees with the one of all commands: what is gathered shares a connection
// and is quick.
func TestTheTableIsOfCommandsThatShare(t *testing.T) {
	for name := range gathered {
		info := command.Lookup([]byte(name), nil)
		switch {
		case info == nil:
			t.Errorf("%s isn't known", name)
		case info.Class != command.Shareable, info.Blocking, info.AfterWrite, info.Asking, info.Tx != command.TxNone,
			info.Flags.Has(command.FlagNoScript), info.Flags.Has(command.FlagAdmin), info.Flags.Has(command.FlagBlocking):
			t.Errorf("%s: %+v", name, info)
		}
	}
}

// A call whose context has ended goes straight on, and counts as no gathered one.
func TestACallThatIsOverIsNotGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g, c := newTestChain(&s)
		ctx, cancel := context.WithCancel(background)
		cancel()
		call(ctx, c, "get", "key")
		synctest.Wait()
		if n := g.Stats(); n.Gathered != 0 || n.Batches != 0 || n.Calls != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// Counts of chains that are gone stay.
func TestCountsOutliveChains(t *testing.T) {
	g, c := newTestChain(&server{}, func(cfg *Config) { cfg.From = 5 })
	call(background, c, "get", "key")
	g.forget(c.tally)
	if n := g.Stats().Calls; n != 1 {
		t.Errorf("%d calls", n)
	}
}
