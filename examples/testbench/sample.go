package main

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hotkey"
)

// sampleEvery is how often everything is looked at.
const sampleEvery = 500 * time.Millisecond

// hotShown is how many hot keys are shown.
const hotShown = 8

// sample is what was seen of a side since the sample before. Times are milliseconds.
type sample struct {
	OK     float64  `json:"ok"`     // calls a second
	Failed float64  `json:"failed"` // calls a second
	P50    float64  `json:"p50"`
	P99    float64  `json:"p99"`
	Max    float64  `json:"max"`
	Conns  conns    `json:"conns"`
	Hot    []hotKey `json:"hot"`
	Totals totals   `json:"totals"`
}

// conns are connections by state, and those who wait for one.
type conns struct {
	Shared  int `json:"shared"` // by all callers
	Used    int `json:"used"`   // by one caller each
	Idle    int `json:"idle"`
	Waiting int `json:"waiting"` // callers without a connection
}

type hotKey struct {
	Key  string  `json:"key"`
	Rate float64 `json:"rate"` // reads a second
}

// totals are a side's figures since the start. Times are milliseconds.
type totals struct {
	OK        int64            `json:"ok"`
	Failed    map[string]int64 `json:"failed"` // by kind
	P50       float64          `json:"p50"`
	P99       float64          `json:"p99"`
	Max       float64          `json:"max"`
	Dials     int64            `json:"dials"`
	Heals     int64            `json:"heals"` // times that a server came back; everpool only
	Published int64            `json:"published"`
	Received  int64            `json:"received"`
	Writes    account          `json:"writes"` // what is found is known in the end only
}

// sampler takes samples of the sides.
type sampler struct {
	sides   []*side
	journal *journal
	out     *terminal
	before  map[*side]seen
}

// seen is what a side's counters were at the last sample.
type seen struct {
	at         time.Time
	ok, failed int64
	latency    *counts
}

func newSampler(sides []*side, j *journal, out *terminal) *sampler {
	return &sampler{sides, j, out, make(map[*side]seen)}
}

// run takes samples until ctx is done.
func (sm *sampler) run(ctx context.Context) {
	for _, s := range sm.sides {
		sm.before[s] = s.look()
	}
	pause(ctx, sampleEvery)
	every(ctx, sampleEvery, func() {
		entry := sampleEntry{Kind: "sample", At: sm.journal.since(), Drivers: make(map[string]sample)}
		for _, s := range sm.sides {
			entry.Drivers[s.name] = sm.take(s)
		}
		sm.journal.add(entry)
		sm.out.sample(entry.At, sm.sides, entry.Drivers)
	})
}

// take takes a sample of a side.
func (sm *sampler) take(s *side) sample {
	before, now := sm.before[s], s.look()
	sm.before[s] = now
	seconds := now.at.Sub(before.at).Seconds()
	latency := now.latency.since(before.latency)
	return sample{
		OK:     float64(now.ok-before.ok) / seconds,
		Failed: float64(now.failed-before.failed) / seconds,
		P50:    ms(latency.quantile(0.5)), P99: ms(latency.quantile(0.99)), Max: ms(latency.quantile(1)),
		Conns: s.conns(), Hot: s.hot(), Totals: s.totals(now.latency),
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// look reads a side's counters.
func (s *side) look() seen {
	return seen{time.Now(), s.tally.ok.Load(), sum(s.tally.failures()), s.tally.latency.snapshot()}
}

// totals are the figures so far.
func (s *side) totals(latency *counts) totals {
	t := totals{
		OK: s.tally.ok.Load(), Failed: s.tally.failures(), Dials: s.net.dials.Load(),
		P50: ms(latency.quantile(0.5)), P99: ms(latency.quantile(0.99)), Max: ms(time.Duration(s.tally.slowest.Load())),
		Published: s.published.Load(), Received: s.received.Load(), Writes: s.ledger.soFar(),
	}
	if s.drv != nil {
		for _, n := range s.drv.Nodes() {
			t.Heals += n.Stats.Heals
		}
	}
	return t
}

// conns counts the connections. On everpool the driver knows, on go-redis's own pool the
// client does.
func (s *side) conns() (c conns) {
	if s.drv == nil {
		for _, client := range []redis.UniversalClient{s.rdb, s.replicas} {
			if client == nil {
				continue
			}
			st := client.PoolStats()
			c.Used += int(st.TotalConns-st.IdleConns) + int(st.PubSubStats.Active)
			c.Idle += int(st.IdleConns)
			c.Waiting += int(st.PendingRequests)
		}
		return c
	}
	for _, n := range s.drv.Nodes() {
		c.Shared += n.Stats.Lanes
		c.Used += n.Stats.InUse - n.Stats.Lanes
		c.Idle += n.Stats.Idle
		c.Waiting += n.Stats.Waiting + n.Stats.Awaiting
	}
	return c
}

// hot are the keys that are read most.
func (s *side) hot() []hotKey {
	keys := make([]hotKey, 0, hotShown)
	for _, c := range s.keys.Top(hotkey.Reads, hotShown) {
		keys = append(keys, hotKey{c.Key, c.Rate})
	}
	return keys
}
