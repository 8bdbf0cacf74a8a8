package gather

import (
	"context"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/yielding"
)

// Config says when to gather, how much, and what callers are told. All of it is needed.
type Config struct {
	From    int // callers inside, the one that comes among them
	Flights int // at a time, of each line
	Largest int // commands of a batch
	Worth   int // commands of the flight that a command is in, on average; with less, gathering rests

	// Alike reports whether the same is true of commands of both effects when they
	// are lost, so that they may be in one batch. Those that read are with none that
	// write, for which a server may wait (CLIENT PAUSE WRITE, FAILOVER).
	Alike func(a, b command.Effect) bool

	// Unknown makes the error of a command that may have run, whose caller has left
	// or can't be told, for the reason given.
	Unknown func(reason error) error
}

// Reason says why a command went straight on.
type Reason uint8

// The reasons. Gathered says that it didn't.
const (
	Gathered Reason = iota
	OtherCommand
	OtherResult
	OtherArgument
	Large
	Thin
	reasons
)

var reasonNames = [reasons]string{"gathered", "command", "result", "argument", "large", "thin"}

// String returns a word.
func (r Reason) String() string { return reasonNames[r] }

// Gatherer gathers for the clients that it is given. Its methods are safe for
// concurrent use.
type Gatherer struct {
	cfg    Config
	yields *yielding.Yielder
	lines  [command.Unsafe + 1]int // of each effect

	from    atomic.Int64 // cfg.From; never, once it is off
	n       [reasons]atomic.Int64
	batches atomic.Int64

	mu      sync.Mutex
	off     bool
	up      int        // batches that are gathering or under way
	landed  *sync.Cond // up is 0
	tallies map[*tally]bool
	gone    int64 // calls of chains that are gone
}

// never is more callers than there can be inside.
const never = 1 << insideBits

// New returns a Gatherer.
func New(cfg Config) *Gatherer {
	g := &Gatherer{cfg: cfg, yields: yielding.New(), tallies: make(map[*tally]bool)}
	g.landed = sync.NewCond(&g.mu)
	g.from.Store(int64(cfg.From))
	for e := command.Idempotent; e <= command.Unsafe; e++ {
		g.lines[e] = g.lines[e-1]
		if e-1 == command.Read || !cfg.Alike(e-1, e) {
			g.lines[e]++
		}
	}
	return g
}

// Off has all commands go straight on from now on. It returns when no batch is gathering
// or under way.
func (g *Gatherer) Off() {
	g.from.Store(never)
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.off = true; g.up > 0; {
		g.landed.Wait()
	}
}

// begin counts a batch, unless there are to be no more.
func (g *Gatherer) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.off {
		return false
	}
	g.up++
	return true
}

// end counts one less.
func (g *Gatherer) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.up--; g.up == 0 {
		g.landed.Broadcast()
	}
}

// Stats are counts since the Gatherer was made.
type Stats struct {
	Calls    int64 // commands, gathered or not
	Batches  int64
	Gathered int64            // commands in batches
	Direct   map[string]int64 // commands that went straight on, by Reason, though callers were many
}

// Stats returns what has been counted.
func (g *Gatherer) Stats() Stats {
	s := Stats{Batches: g.batches.Load(), Gathered: g.n[Gathered].Load(), Direct: make(map[string]int64)}
	for r := Gathered + 1; r < reasons; r++ {
		s.Direct[r.String()] = g.n[r].Load()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Calls = g.gone
	for t := range g.tallies {
		s.Calls += t.calls()
	}
	return s
}

// Attach gathers for a client of one node. Hooks that the client has see commands one by
// one, as without; hooks that are added later turn gathering off for the client. It
// reports false if the client's chain doesn't end where it should, in a go-redis that
// isn't known: nothing is gathered then.
func (g *Gatherer) Attach(client *redis.Client) bool {
	o := client.Options()
	h := &hook{g: g, retries: retries{o.MaxRetries, max(o.MinRetryBackoff, 0), max(o.MaxRetryBackoff, 0)}}
	client.AddHook(h)
	return h.chain.whole
}

// hook learns where the chain of a client ends that it is added to: what AddHook calls is
// certain to be of one chain. The chains that are built later, of the same hook for
// Conn, Tx, clones and the like, are left as they are.
type hook struct {
	g       *Gatherer
	retries retries
	chain   *chain
}

func (h *hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	if h.chain != nil {
		return next
	}
	h.chain = newChain(h.g, next, h.retries)
	return h.chain.do
}

func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	if h.chain == nil || h.chain.pipeline != nil {
		return next
	}
	h.chain.end(next)
	return h.chain.doPipeline
}

// isMethod reports whether f is that method of go-redis's client.
func isMethod(f any, name string) bool {
	return runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name() == "github.com/redis/go-redis/v9.(*baseClient)."+name+"-fm"
}

// tally counts the calls of a chain, and those that are inside, in one word.
type tally struct{ word atomic.Uint64 }

const insideBits = 20

func (t *tally) enter() (inside int64) { return int64(t.word.Add(1<<insideBits|1) % (1 << insideBits)) }
func (t *tally) leave()                { t.word.Add(^uint64(0)) }
func (t *tally) calls() int64          { return int64(t.word.Load() >> insideBits) }

// chain is the end of a client's hook chain.
type chain struct {
	g        *Gatherer
	process  redis.ProcessHook
	pipeline redis.ProcessPipelineHook
	whole    bool // both are what they should be
	retries  retries
	tally    *tally
	lines    [command.Unsafe + 1]line
	large    large
	yield    yield
}

func newChain(g *Gatherer, process redis.ProcessHook, retries retries) *chain {
	c := &chain{g: g, process: process, retries: retries, tally: new(tally)}
	for i := range c.lines {
		c.lines[i].chain = c
		c.lines[i].replies.begin()
	}
	g.mu.Lock()
	g.tallies[c.tally] = true
	g.mu.Unlock()
	runtime.AddCleanup(c, g.forget, c.tally)
	return c
}

// forget adds up what a chain has counted that is gone.
func (g *Gatherer) forget(t *tally) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.tallies, t)
	g.gone += t.calls()
}

// end notes the last part of the chain.
func (c *chain) end(pipeline redis.ProcessPipelineHook) {
	c.pipeline = pipeline
	c.whole = isMethod(c.process, "process") && isMethod(pipeline, "processPipeline")
}

// do is what the client's chain calls for a command.
func (c *chain) do(ctx context.Context, cmd redis.Cmder) error {
	inside := c.tally.enter()
	defer c.tally.leave()
	if inside < c.g.from.Load() || !c.whole {
		return c.process(ctx, cmd)
	}
	return c.gather(ctx, cmd)
}

// on reports whether the chain is known, and the Gatherer isn't off.
func (c *chain) on() bool { return c.whole && c.g.from.Load() != never }

// gather runs the command in a batch, if it may be in one.
func (c *chain) gather(ctx context.Context, cmd redis.Cmder) error {
	if c.yield.rests() {
		return c.direct(ctx, cmd, Thin)
	}
	mayLeave := ctx.Done() != nil
	r, key, why := ruleFor(cmd, mayLeave)
	if why == Gathered && c.large.expects(key) {
		err := c.direct(ctx, cmd, Large)
		c.large.note(key, kindOf(cmd).size(cmd))
		return err
	}
	if why != Gathered {
		return c.direct(ctx, cmd, why)
	}
	if ctx.Err() != nil || ctx.Value(inFlight{}) != nil {
		return c.process(ctx, cmd) // as go-redis has it
	}
	effect := r.effect(cmd.Args())
	run := cmd
	if mayLeave {
		run = cmd.Clone()
	}
	run.SetErr(nil) // where there is an error go-redis gives a pipeline's command no other
	l := &c.lines[c.g.lines[effect]]
	b, at := l.board(ctx, run, mayLeave)
	switch at {
	case refused:
		return c.process(ctx, cmd) // it is off by now
	case alone:
		defer l.landAlone(b)
		err := c.process(ctx, cmd)
		if err == nil {
			c.weigh(cmd, effect, key)
		}
		return err
	}
	if !mayLeave {
		<-b.over
	} else if err := l.await(ctx, b, at, effect); err != nil {
		return err
	}
	b.raise()
	return c.tell(ctx, b, cmd, run, effect, key)
}

// weigh notes how large the reply to a command was.
func (c *chain) weigh(cmd redis.Cmder, effect command.Effect, key string) {
	size := kindOf(cmd).size(cmd)
	c.lines[c.g.lines[effect]].replies.note(size)
	if size > largeReply {
		c.large.note(key, size)
	}
}

// direct runs a command that isn't gathered for that reason.
func (c *chain) direct(ctx context.Context, cmd redis.Cmder, why Reason) error {
	c.g.n[why].Add(1)
	return c.process(ctx, cmd)
}

// again tries a command alone whose first try was in a batch: as often as go-redis would.
func (c *chain) again(ctx context.Context, cmd redis.Cmder) error {
	for attempt := 1; ; attempt++ {
		if err := pause(ctx, c.retries.backoff(attempt)); err != nil {
			return err
		}
		err := c.process(ctx, once{cmd})
		if attempt == c.retries.most || !triesAgain(err) {
			return err
		}
	}
}

// tell ends the call of a command whose batch is over. After an error after which go-redis
// would try a single command again, it does.
func (c *chain) tell(ctx context.Context, b *batch, cmd, run redis.Cmder, effect command.Effect, key string) error {
	err := ofOne(run.Err())
	run.SetErr(err)
	switch {
	case err == nil:
		c.weigh(run, effect, key)
	case c.retries.most > 0 && triesAgain(err):
		if err = c.again(ctx, cmd); err == nil {
			c.weigh(cmd, effect, key)
		}
		return err
	case b.sent && effect != command.Read && isAnothers(err):
		run.SetErr(c.g.cfg.Unknown(err))
	}
	if run != cmd {
		kindOf(cmd).take(cmd, run)
		cmd.SetErr(run.Err())
	}
	return cmd.Err()
}
