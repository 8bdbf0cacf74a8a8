package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// workload is what a group of callers does. start registers what it writes in the side's
// ledger, and returns what runs it until its context is done.
type workload struct {
	name, about string
	start       func(s *side) (run func(context.Context))
}

// workloads are all of them. Each is the same on every side.
var workloads = []workload{
	{"steady", "8 callers: three GETs, then an INCR, every 10 ms", steady},
	{"waves", "1 to -wave callers and back every 20 s, a GET every 200 ms each", waves},
	{"hotkeys", "4 callers read 1,000 keys, few of them often (Zipf)", hotkeys},
	{"pipelines", "2 callers: an INCR and nine GETs in a pipeline, every 50 ms", pipelines},
	{"transactions", "2 callers: two INCRs in MULTI and EXEC, every 20 ms", transactions},
	{"queues", "a caller pushes, two block for what comes (BLMOVE)", queues},
	{"pubsub", "a publisher and a subscriber, 20 messages a second", pubsub},
	{workloadReplicas, "4 callers read from replicas, with -cluster", replicas},
}

// workloadReplicas needs a cluster.
const workloadReplicas = "replicas"

// every calls do at that pace until ctx is done. What takes longer is followed at once.
func every(ctx context.Context, pace time.Duration, do func()) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// together runs n callers and returns when all have ended.
func together(n int, caller func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { caller(i) })
	}
	wg.Wait()
}

// get reads a key and checks the reply.
func (s *side) get(key string) {
	var cmd *redis.StringCmd
	_ = s.call(func(ctx context.Context) error { cmd = s.rdb.Get(ctx, key); return cmd.Err() }) // counted
	s.ledger.read(key, cmd)
}

// incr adds one to a counter and takes note of what is told.
func (s *side) incr(c *counter) {
	var cmd *redis.IntCmd
	_ = s.call(func(ctx context.Context) error { cmd = s.rdb.Incr(ctx, c.key); return cmd.Err() }) // counted
	s.note(c, cmd)
}

// note takes note of what an INCR's caller was told.
func (s *side) note(c *counter, cmd *redis.IntCmd) {
	if err := cmd.Err(); err != nil {
		c.fail(s.unknown(err))
		return
	}
	c.ack(cmd.Val())
}

func steady(s *side) func(context.Context) {
	counters := make([]*counter, 8)
	for i := range counters {
		counters[i] = s.ledger.newCounter(fmt.Sprintf("steady:%d", i))
	}
	return func(ctx context.Context) {
		together(len(counters), func(i int) {
			n := 0
			every(ctx, 10*time.Millisecond, func() {
				if n++; n%4 == 0 {
					s.incr(counters[i])
				} else {
					s.get(s.ledger.article(i*100 + n%100))
				}
			})
		})
	}
}

// wavePeriod is from one height of a wave to the next.
const wavePeriod = 20 * time.Second

// level is how many callers a wave has, so long after its start.
func level(since time.Duration, most int) int {
	share := (1 - math.Cos(2*math.Pi*since.Seconds()/wavePeriod.Seconds())) / 2
	return 1 + int(math.Round(share*float64(most-1)))
}

func waves(s *side) func(context.Context) {
	return func(ctx context.Context) {
		var wg sync.WaitGroup
		var running []context.CancelFunc
		began := time.Now()
		every(ctx, 100*time.Millisecond, func() {
			want := level(time.Since(began), s.wave)
			for len(running) < want {
				working, stop := context.WithCancel(ctx)
				key := s.ledger.article(len(running) % articles)
				running = append(running, stop)
				wg.Go(func() { every(working, 200*time.Millisecond, func() { s.get(key) }) })
			}
			for len(running) > want {
				running[len(running)-1]()
				running = running[:len(running)-1]
			}
		})
		for _, stop := range running {
			stop()
		}
		wg.Wait()
	}
}

// zipf returns what draws articles, the first ones often.
func zipf(s *side, caller int) func() string {
	draw := rand.NewZipf(rand.New(rand.NewPCG(uint64(caller), 1)), 1.3, 1, articles-1)
	return func() string { return s.ledger.article(int(draw.Uint64())) }
}

func hotkeys(s *side) func(context.Context) {
	return func(ctx context.Context) {
		together(4, func(i int) {
			next := zipf(s, i)
			every(ctx, 5*time.Millisecond, func() { s.get(next()) })
		})
	}
}

func pipelines(s *side) func(context.Context) {
	counters := []*counter{s.ledger.newCounter("pipelines:0"), s.ledger.newCounter("pipelines:1")}
	return func(ctx context.Context) {
		together(len(counters), func(i int) {
			next := zipf(s, i)
			every(ctx, 50*time.Millisecond, func() { s.pipeline(counters[i], next) })
		})
	}
}

// pipeline sends an INCR and nine GETs at once.
func (s *side) pipeline(c *counter, next func() string) {
	var incr *redis.IntCmd
	keys, gets := make([]string, 9), make([]*redis.StringCmd, 9)
	_ = s.call(func(ctx context.Context) error {
		_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			incr = p.Incr(ctx, c.key)
			for i := range gets {
				keys[i] = next()
				gets[i] = p.Get(ctx, keys[i])
			}
			return nil
		})
		return err
	})
	s.note(c, incr)
	for i, cmd := range gets {
		s.ledger.read(keys[i], cmd)
	}
}

func transactions(s *side) func(context.Context) {
	pairs := [][2]*counter{s.ledger.newPair("tx:0"), s.ledger.newPair("tx:1")}
	return func(ctx context.Context) {
		together(len(pairs), func(i int) {
			every(ctx, 20*time.Millisecond, func() { s.transaction(pairs[i]) })
		})
	}
}

// transaction adds one to both counters, or to none.
func (s *side) transaction(pair [2]*counter) {
	var cmds [2]*redis.IntCmd
	err := s.call(func(ctx context.Context) error {
		_, err := s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			for i, c := range pair {
				cmds[i] = p.Incr(ctx, c.key)
			}
			return nil
		})
		return err
	})
	for i, c := range pair {
		if err != nil {
			c.fail(s.unknown(err))
		} else {
			c.ack(cmds[i].Val())
		}
	}
}

func queues(s *side) func(context.Context) {
	s.ledger.pushed = newItems()
	return func(ctx context.Context) {
		together(3, func(i int) {
			if i == 0 {
				n := 0
				every(ctx, 20*time.Millisecond, func() { n++; s.push(fmt.Sprintf("item %d", n)) })
				return
			}
			for ctx.Err() == nil {
				s.take()
			}
		})
	}
}

// push puts an item into the queue.
func (s *side) push(item string) {
	err := s.call(func(ctx context.Context) error { return s.rdb.LPush(ctx, s.ledger.queue(), item).Err() })
	switch {
	case err == nil:
		s.ledger.pushed.note(item, toldDone)
	case s.unknown(err):
		s.ledger.pushed.note(item, toldUnknown)
	default:
		s.ledger.pushed.note(item, toldFailed)
	}
}

// take waits for an item and moves it to the list of those that were taken. Whatever is
// told of that, the item is in one of the lists.
func (s *side) take() {
	item, err := s.rdb.BLMove(context.Background(), s.ledger.queue(), s.ledger.taken(), "RIGHT", "LEFT", time.Second).Result()
	s.tally.count(err) // without the time, which is that of waiting for an item
	if err == nil && !strings.HasPrefix(item, "item ") {
		s.ledger.pushed.misled()
	}
}

func pubsub(s *side) func(context.Context) {
	channel := s.ledger.key("news")
	return func(ctx context.Context) {
		var wg sync.WaitGroup
		wg.Go(func() { s.listen(ctx, channel) })
		n := 0
		every(ctx, 50*time.Millisecond, func() {
			n++
			err := s.call(func(ctx context.Context) error {
				return s.rdb.Publish(ctx, channel, fmt.Sprintf("%s %d", channel, n)).Err()
			})
			if err == nil {
				s.published.Add(1)
			}
		})
		wg.Wait()
	}
}

// listen receives messages. Those of an outage are gone: that is what PUBLISH is like.
func (s *side) listen(ctx context.Context, channel string) {
	subscription := s.rdb.Subscribe(ctx, channel)
	messages := subscription.Channel()
	stop := context.AfterFunc(ctx, func() { _ = subscription.Close() })
	defer stop()
	for m := range messages { // until it is closed
		s.received.Add(1)
		if m.Channel != channel || !strings.HasPrefix(m.Payload, channel+" ") {
			s.ledger.foreign.Add(1)
		}
	}
}

func replicas(s *side) func(context.Context) {
	return func(ctx context.Context) {
		together(4, func(i int) {
			next := zipf(s, i)
			every(ctx, 10*time.Millisecond, func() {
				key := next()
				var cmd *redis.StringCmd
				err := s.call(func(ctx context.Context) error { cmd = s.replicas.Get(ctx, key); return cmd.Err() })
				if err == nil && cmd.Val() != content(key) {
					s.ledger.foreign.Add(1)
				}
			})
		})
	}
}
