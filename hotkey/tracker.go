package hotkey

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// Tracker counts keys: see the package's documentation. Make one with [New], give
// it to [hooks.New], and Close it. It may watch any number of clients.
type Tracker struct {
	cfg     Config
	classes [numClasses]*counting // nil: not tracked
	most    atomic.Uint64         // the higher of the classes' thresholds; 0: closed
	aiming  sync.Mutex            // guards stopped, and writes of most
	stopped bool                  // nothing is counted any more

	hot      [numClasses]hotKeys  // of the windows' goroutine, and so is
	evidence [numClasses]evidence // for the flushes
	pending  *pending             // nil without a sink
	sets     [numClasses][3]string
	lengths  uint64        // a bit for the length of each key in sets, modulo 64
	reads    chan struct{} // has one for each read of the sets that runs

	closing  chan struct{} // closed by Close
	rolled   chan struct{} // closed after the last window
	finished chan struct{} // closed when both goroutines have ended
	base     context.Context
	cancel   context.CancelFunc // of base, and so of a flush

	once     sync.Once // Close
	closeErr error
}

var _ hooks.Observer = (*Tracker)(nil)

// New returns a tracker. It fails, with all that is wrong in errors that wrap
// [ErrConfig], if [Config.Validate] does. It does no network I/O.
func New(cfg Config) (*Tracker, error) {
	err := cfg.Validate()
	if _, own := cfg.Sink.(ownClient); own {
		err = errors.Join(err, fmt.Errorf("%w: Sink is OwnClient, which is for Option; allowed are a client, and nil for none", ErrConfig))
	}
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	t := &Tracker{
		cfg:     cfg,
		sets:    [numClasses][3]string{Reads: keysOf(cfg.ReadsKey), Writes: keysOf(cfg.WritesKey)},
		hot:     [numClasses]hotKeys{Reads: {}, Writes: {}},
		reads:   make(chan struct{}, maxReads),
		closing: make(chan struct{}), rolled: make(chan struct{}), finished: make(chan struct{}),
	}
	for _, keys := range t.sets {
		for _, key := range keys {
			t.lengths |= 1 << (len(key) % 64)
		}
	}
	t.base, t.cancel = context.WithCancel(context.WithValue(context.Background(), ownKey{}, true))
	if cfg.Sink != nil {
		t.pending = newPending(pendingPerTop * cfg.TopN)
	}
	now := time.Now()
	for class, rate := range [numClasses]float64{Reads: cfg.ReadSampleRate, Writes: cfg.WriteSampleRate} {
		if rate > 0 {
			t.classes[class] = newCounting(Class(class), rate, cfg, now)
		}
	}
	t.aim()
	t.start()
	return t, nil
}

// thresholdBits is how many random bits decide about a sample.
const thresholdBits = 53

// aim sets most, unless the tracker was stopped.
func (t *Tracker) aim() {
	t.aiming.Lock()
	defer t.aiming.Unlock()
	if t.stopped {
		return
	}
	var most uint64
	for _, c := range t.classes {
		if c != nil {
			most = max(most, c.threshold.Load())
		}
	}
	t.most.Store(most)
}

// stop ends the counting. It is one step, so that an aim that runs meanwhile can't
// have the last word.
func (t *Tracker) stop() {
	t.aiming.Lock()
	defer t.aiming.Unlock()
	t.stopped = true
	t.most.Store(0)
}

// start starts the goroutines that the configuration asks for.
func (t *Tracker) start() {
	if t.most.Load() == 0 {
		close(t.finished)
		return
	}
	var wg sync.WaitGroup
	wg.Go(t.roll)
	if t.pending != nil {
		wg.Go(t.flushes)
	}
	go func() {
		wg.Wait()
		close(t.finished)
	}()
}

// Begin is for [hooks.Hook].
func (t *Tracker) Begin(ctx context.Context, _ *hooks.Operation) context.Context { return ctx }

// End is for [hooks.Hook].
func (t *Tracker) End(ctx context.Context, op *hooks.Operation) {
	most := t.most.Load()
	if most == 0 {
		return
	}
	for _, cmd := range op.Cmds {
		if random := rand.Uint64() >> (64 - thresholdBits); random < most {
			if ctx.Value(ownKey{}) != nil {
				return
			}
			t.sample(op, cmd, random)
		}
	}
}

// ownKey marks the contexts of trackers' own commands.
type ownKey struct{}

// maxKeys is how many keys of one command are counted, the first ones. It bounds
// what a sampled command costs its user; a key that is hot is hot elsewhere too.
const maxKeys = 1024

// sample counts a command's keys. One random number decides for all of them, so
// that at equal rates a command counts with its keys of both classes or not at all.
func (t *Tracker) sample(op *hooks.Operation, cmd redis.Cmder, random uint64) {
	var buf [8]hooks.Key
	keys := hooks.AppendKeys(buf[:0], cmd)
	if len(keys) == 0 {
		return
	}
	by := useOf(op, cmd)
	for _, key := range keys[:min(len(keys), maxKeys)] {
		c := t.sampling(key, random)
		if c == nil || t.isSet(key.Name) {
			continue
		}
		if name, ok := t.name(key.Name); ok {
			c.add(name, by)
		}
	}
	if len(keys) > maxKeys {
		t.skip(keys[maxKeys:], random)
	}
}

// sampling is the class that counts the key at this random number, or nil.
func (t *Tracker) sampling(key hooks.Key, random uint64) *counting {
	class := classOf(key.Access)
	if class == numClasses {
		return nil
	}
	if c := t.classes[class]; c != nil && random < c.threshold.Load() {
		return c
	}
	return nil
}

// isSet reports whether a key belongs to the sorted sets. Those are used by trackers,
// and not every sink hands on the context that marks their commands.
func (t *Tracker) isSet(key string) bool {
	if t.lengths&(1<<(len(key)%64)) == 0 { // most are told apart by their length
		return false
	}
	return slices.Contains(t.sets[Reads][:], key) || slices.Contains(t.sets[Writes][:], key)
}

// skip notes the keys that are too many.
func (t *Tracker) skip(keys []hooks.Key, random uint64) {
	var skipped [numClasses]uint64
	for _, key := range keys {
		if c := t.sampling(key, random); c != nil {
			skipped[c.class]++
		}
	}
	for class, n := range skipped {
		if n > 0 {
			t.classes[class].skipped.Add(n)
		}
	}
}

// name is what a key is counted under, if it is.
func (t *Tracker) name(key string) (name string, ok bool) {
	if t.cfg.Normalize != nil {
		if key = t.cfg.Normalize(key); key == "" {
			return "", false
		}
	}
	if len(key) <= t.cfg.MaxKeyLen {
		return key, true
	}
	return cut(key, t.cfg.MaxKeyLen), true
}

// cutMark is between what is left of a long name and its hash.
const cutMark = "…"

// cut shortens a name to length bytes, the last of which are a hash, by which names
// that begin alike are told apart. It is the same in all programs, since they add to
// the same sets.
func cut(name string, length int) string {
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, name) // never fails
	end := cutMark + fmt.Sprintf("%08x", uint32(hash.Sum64()>>32))
	left := length - len(end)
	for i := range utf8.UTFMax - 1 { // not within a character
		if utf8.RuneStart(name[left-i]) {
			left -= i
			break
		}
	}
	return name[:left] + end
}

// Top returns up to n keys of a class that were used most in the last complete
// window, the first of them most; before the end of the first window, in the
// time since the start. n is TopN at most. A key of which less than half the count is
// sure ([Count].Lower), or fewer than five samples, isn't among them, so that where
// nothing is hot there is none. It is empty if the class isn't tracked.
func (t *Tracker) Top(class Class, n int) []Count {
	w := t.window(class)
	if w == nil {
		return nil
	}
	return w.top(min(n, t.cfg.TopN))
}

// window is the one that is shown; nil if the class isn't tracked.
func (t *Tracker) window(class Class) *window {
	if class >= numClasses || t.classes[class] == nil {
		return nil
	}
	return t.classes[class].current(time.Now())
}

// Close ends the window, flushes a last time, and ends the tracker's goroutines.
// From then on nothing is counted; Top goes on to return what it did. Close waits
// up to FlushTimeout and a quarter; it fails if not all counts were surely flushed
// by then, and says why; the others are lost. If the sink still hasn't returned, or
// OnHot hasn't, that goroutine ends when it does. Called again, Close returns the
// same.
func (t *Tracker) Close() error {
	t.once.Do(func() {
		t.stop()
		before := t.Stats().Flush
		close(t.closing)
		t.closeErr = t.finish(before)
	})
	return t.closeErr
}

// lost is what was dropped, or may be lost.
func (s FlushStats) lost() uint64 { return saturating(s.Dropped, s.Unknown) }

// finish waits for the goroutines. before is what was when Close was called.
func (t *Tracker) finish(before FlushStats) error {
	deadline := time.AfterFunc(t.cfg.FlushTimeout, t.cancel)
	defer deadline.Stop()
	patience := time.NewTimer(t.cfg.FlushTimeout + t.cfg.FlushTimeout/4)
	defer patience.Stop()
	select {
	case <-t.finished:
		t.cancel()
	case <-patience.C:
		return fmt.Errorf("hotkey: Close: the last flush didn't end in %v", t.cfg.FlushTimeout)
	}
	if t.pending == nil {
		return nil
	}
	t.pending.drop()
	after := t.pending.snapshot()
	switch lost := after.lost() - before.lost(); {
	case lost == 0:
		return nil
	case after.Failed == before.Failed:
		return fmt.Errorf("hotkey: Close: counts of %d are lost: too many keys waited for the last flush", lost)
	default:
		return fmt.Errorf("hotkey: Close: the last flush has failed (%s): counts of %d are lost", after.LastError, lost)
	}
}
