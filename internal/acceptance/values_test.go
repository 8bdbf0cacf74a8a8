package acceptance_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// edges are sizes of requests and replies from which on other memory is used: another
// buffer of go-redis's or of the pool's, one that is lent, or none.
var edges = []int{256, 512, 1 << 10, 4 << 10, 16 << 10, 32 << 10, 64 << 10, 68 << 10}

// anySize is mostly so close to an edge that a request, with what is around its value, is
// on either side of it.
func anySize() int {
	if rand.IntN(8) == 0 {
		return rand.IntN(70 << 10)
	}
	return edges[rand.IntN(len(edges))] + 10 - rand.IntN(110)
}

// sizes are such sizes, or small ones, of which many go in one piece.
func sizes() func() int {
	return []func() int{anySize, func() int { return rand.IntN(1200) }}[rand.IntN(2)]
}

// valueOf is a value of n bytes, or of so many as it takes to say whose it is. Whichever
// part of it is found says which key and which write it is of, and where in it the part
// belongs.
func valueOf(key string, write int64, n int) string {
	piece := fmt.Sprintf("<%s|%d|%d|", key, write, n)
	n = max(n, len(piece))
	b := make([]byte, 0, n+len(piece)+8)
	for len(b) < n {
		b = strconv.AppendInt(append(b, piece...), int64(len(b)), 10)
	}
	return string(b[:n])
}

// differs says from where on got, which was found at the key, isn't want.
func differs(key, want, got string) error {
	if got == want {
		return nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Errorf("%s: %d bytes in the place of %d, which differ from byte %d on: %.90q in the place of %.90q", key, len(got), len(want), at, got[at:], want[at:])
}

// notWhole says from where on got, which was found at the key, isn't what one write has
// written there.
func notWhole(key, got string) error {
	parts := strings.SplitN(got, "|", 4)
	if len(parts) == 4 && parts[0] == "<"+key {
		write, err1 := strconv.ParseInt(parts[1], 10, 64)
		n, err2 := strconv.Atoi(parts[2])
		if err1 == nil && err2 == nil && n < 1<<20 {
			return differs(key, valueOf(key, write, n), got)
		}
	}
	return fmt.Errorf("%s: %d bytes that begin as no value of its: %.90q", key, len(got), got)
}

// audit is what callers get, which has to be theirs.
type audit struct {
	*testing.T
	tally
	writes atomic.Int64
	slow   time.Duration
	moves  bool // keys have other servers now and then
}

// newAudit is for callers of a server that has nothing.
func newAudit(t *testing.T, server *testkit.Server) *audit {
	slow := stockSide(t, redis.Options{Addr: server.Addr}).slowness(t, callers)
	server.Do(t, "FLUSHALL")
	return &audit{T: t, slow: slow}
}

// value is one that nobody has written yet.
func (a *audit) value(key string, n int) string { return valueOf(key, a.writes.Add(1), n) }

// damaged is the error of a request or of a reply that has become another.
var damaged = regexp.MustCompile(`^ERR |^WRONGTYPE|^CROSSSLOT|^redis: (can't|unexpected|invalid)|parsing|protocol violation`)

// failed notes the error of a call.
func (a *audit) failed(what string, err error) {
	a.failedReads.Add(1)
	a.fail(err)
	// A transaction is refused where a slot moves, and nowhere else: no two write the same key.
	refused := strings.HasPrefix(err.Error(), "EXECABORT") || errors.Is(err, redis.TxFailedErr)
	if refused && !a.moves || damaged.MatchString(err.Error()) {
		a.tell(fmt.Errorf("%s: %.300s", what, err))
	}
}

// got notes that a call has returned something, and what is wrong with that, if anything is.
func (a *audit) got(wrong error) {
	a.reads.Add(1)
	if wrong != nil {
		a.tell(wrong)
	}
}

// tell fails the test, with the first things that are wrong: many more follow from one.
func (a *audit) tell(wrong error) {
	if a.wrong.Add(1) <= 10 {
		a.Error(wrong)
	}
}

// keepFor is for how long keys live that are left behind.
const keepFor = 40 * time.Second

// writer is a caller with a key that nobody else writes. A write whose outcome isn't known
// may come late, and replace what was acknowledged meanwhile, so that the writer then goes
// on with another key: what a key has is exactly what was acknowledged last.
type writer struct {
	*audit
	rdb  redis.UniversalClient
	id   int64
	keys int
	key  string
	want string // "": nothing
	till time.Time
}

// renew has the writer go on with a key that nobody has used yet.
func (w *writer) renew() {
	w.keys++
	w.key, w.want, w.till = fmt.Sprintf("{w%d}%d", w.id, w.keys), "", time.Now().Add(keepFor/4)
}

// wrote notes how a write has ended.
func (w *writer) wrote(what, value string, err error) {
	if w.want = value; err != nil {
		w.failed(what, err)
		w.renew()
	}
}

// found compares what was read with what the key had then. Where its server changes, go-redis
// sends part of a pipeline again behind the rest, and a busy server may lose what it has
// acknowledged.
func (w *writer) found(key, want string, cmd *redis.StringCmd) {
	switch got, err := cmd.Result(); {
	case errors.Is(err, redis.Nil) && (want == "" || w.moves):
	case err != nil && !errors.Is(err, redis.Nil):
		w.failed("GET or ECHO", err)
	case w.moves:
		w.got(notWhole(key, got))
	default:
		w.got(differs(key, want, got))
	}
}

// call calls once, in one of several ways, with a context that ends soon, or that is
// cancelled, or that lasts for longer than most calls.
func (w *writer) call() {
	if w.key == "" || time.Now().After(w.till) {
		w.renew()
	}
	ctx, cancel := context.WithTimeout(w.Context(), w.slow*time.Duration([]int{rand.IntN(30), 200, 200}[rand.IntN(3)])*time.Millisecond)
	defer cancel()
	if rand.IntN(5) == 0 {
		defer time.AfterFunc(w.slow*time.Duration(rand.IntN(30))*time.Millisecond, cancel).Stop()
	}
	value := w.value(w.key, anySize())
	switch rand.IntN(8) {
	case 0, 1:
		w.wrote("SET", value, w.rdb.Set(ctx, w.key, value, keepFor).Err())
	case 2, 3:
		w.found(w.key, w.want, w.rdb.Get(ctx, w.key))
	case 4:
		w.found(w.key, value, w.rdb.Echo(ctx, value))
	case 5:
		w.pipeline(ctx, w.rdb.Pipeline())
	case 6:
		w.pipeline(ctx, w.rdb.TxPipeline())
	case 7:
		w.wrote("WATCH", value, w.rdb.Watch(ctx, func(tx *redis.Tx) error {
			w.found(w.key, w.want, tx.Get(ctx, w.key))
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, w.key, value, keepFor).Err() })
			return err
		}, w.key))
	}
}

// pipeline is a few commands, of which each read has to see the write before it.
func (w *writer) pipeline(ctx context.Context, p redis.Pipeliner) {
	key, want, size := w.key, w.want, sizes()
	var checks []func()
	var sets []*redis.StatusCmd
	for range 1 + rand.IntN(12) {
		value, before := w.value(key, size()), want
		switch rand.IntN(3) {
		case 0:
			sets, want = append(sets, p.Set(ctx, key, value, keepFor)), value
		case 1:
			get := p.Get(ctx, key)
			checks = append(checks, func() { w.found(key, before, get) })
		case 2:
			echo := p.Echo(ctx, value)
			checks = append(checks, func() { w.found(key, value, echo) })
		}
	}
	_, _ = p.Exec(ctx) // it returns what became of the first that wasn't found, or that failed
	for _, check := range checks {
		check()
	}
	var err error
	for _, set := range sets {
		err = cmp.Or(err, set.Err())
	}
	w.wrote("pipeline", want, err)
}
