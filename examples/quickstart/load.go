package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// side is one of the two clients, and what its callers saw.
type side struct {
	name    string
	rdb     *redis.Client
	key     string       // that its callers GET
	incrKey string       // that they INCR
	txEvery int          // every so many INCRs go in a transaction; 0: none does
	dials   func() int64 // connections that were tried to open so far
	counter int64        // the server's value of incrKey at the end

	mu       sync.Mutex
	calls    int
	incrs    int // of calls
	acked    int // INCRs that were answered
	failed   map[string]int
	reads    int // failed GETs
	txs      int // failed transactions that aren't unknown
	slowest  time.Duration
	answered time.Time     // when an answer last came
	gap      time.Duration // longest time without one
}

func newSide(name string, o *redis.Options) *side {
	prefix := fmt.Sprintf("everpool:quickstart:%d:", time.Now().UnixNano())
	return &side{
		name: name, rdb: redis.NewClient(o), key: prefix + "key", incrKey: prefix + "counter",
		failed: make(map[string]int),
	}
}

// countingDialer counts the connections that go-redis tries to open by itself.
type countingDialer struct {
	dials atomic.Int64
	dial  net.Dialer
}

func (d *countingDialer) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.dials.Add(1)
	return d.dial.DialContext(ctx, network, addr)
}

// totalDials is how many connections a driver has tried to open.
func totalDials(d *driver.Driver) int64 {
	var n int64
	for _, node := range d.Nodes() {
		n += node.Stats.Dials
	}
	return n
}

// call is one caller: it works until ctx is done. What is under way then is
// waited for.
func (s *side) call(ctx context.Context, pace time.Duration) {
	t := time.NewTicker(max(pace, 1))
	defer t.Stop()
	for i := 1; ctx.Err() == nil; i++ {
		incr := i%8 == 0
		s.request(context.WithoutCancel(ctx), incr, incr && s.txEvery > 0 && i/8%s.txEvery == 0)
		if pace > 0 {
			select {
			case <-t.C:
			case <-ctx.Done():
			}
		}
	}
}

func (s *side) request(ctx context.Context, incr, tx bool) {
	began := time.Now()
	var err error
	switch {
	case tx:
		_, err = s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, s.incrKey).Err() })
	case incr:
		err = s.rdb.Incr(ctx, s.incrKey).Err()
	default:
		err = s.rdb.Get(ctx, s.key).Err()
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.slowest = max(s.slowest, now.Sub(began))
	if incr {
		s.incrs++
	}
	if err != nil {
		s.failed[kind(err)]++
		switch {
		case !incr:
			s.reads++
		case tx && kind(err) != outcomeUnknown:
			s.txs++
		}
		return
	}
	if incr {
		s.acked++
	}
	if !s.answered.IsZero() {
		s.gap = max(s.gap, now.Sub(s.answered))
	}
	s.answered = now
}

// failures is how many calls failed.
func (s *side) failures() int {
	n := 0
	for _, of := range s.failed {
		n += of
	}
	return n
}

const outcomeUnknown = "outcome unknown"

// kind says in a few words what sort of failure it is.
func kind(err error) string {
	var ne net.Error
	switch {
	case errors.Is(err, pooler.ErrUnknownOutcome):
		return outcomeUnknown // before timeouts: it can be both
	case errors.Is(err, pooler.ErrNodeDown):
		return "node is down"
	case errors.Is(err, redis.ErrPoolTimeout):
		return "no connection in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed"
	case errors.As(err, &ne) && ne.Timeout():
		return "timeout"
	}
	return err.Error()
}
