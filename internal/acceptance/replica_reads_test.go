package acceptance_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// attempts counts the pipelines that go-redis has had each node run, by its address.
type attempts struct {
	mu sync.Mutex
	at map[string]int
}

// countAttempts counts those of the client from now on.
func countAttempts(rdb *redis.ClusterClient) *attempts {
	a := &attempts{at: make(map[string]int)}
	rdb.OnNewNode(func(node *redis.Client) { node.AddHook(attemptsHook{a, node.Options().Addr}) })
	return a
}

// take returns how many there were, and starts anew.
func (a *attempts) take() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.at
	a.at = make(map[string]int)
	return at
}

type attemptsHook struct {
	to   *attempts
	addr string
}

func (attemptsHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (attemptsHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h attemptsHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.to.mu.Lock()
		h.to.at[h.addr]++
		h.to.mu.Unlock()
		return next(ctx, cmds)
	}
}

// Sentinels take their time to call a replica down that says nothing. Until then
// pipelines leave it alone, once one of them was told that it is away.
func TestPipelinesOnSentinelsLeaveAReplicaThatIsSilent(t *testing.T) {
	testkit.Waits(t)
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{})
	was := make(map[*testkit.Server]bool)
	for name, o := range map[string]redis.FailoverOptions{
		"ReplicaOnly": {ReplicaOnly: true}, "RouteRandomly": {RouteRandomly: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.MasterName, o.SentinelAddrs = s.Name, s.Addrs()
			rdb := redis.NewFailoverClusterClient(patientDriver(t).FailoverOptions(&o))
			defer rdb.Close()
			at := countAttempts(rdb)
			read := func() {
				if _, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
					p.Exists(t.Context(), "a") // one, since go-redis chooses a node for each
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
			for range 50 { // all nodes are read from
				read()
			}
			master := s.Master()
			silent := s.Servers[slices.IndexFunc(s.Servers, func(r *testkit.Server) bool { return r.Addr != master && !was[r] })]
			was[silent] = true // what was frozen may count as down for a while
			silent.Freeze()
			defer silent.Thaw()
			at.take()
			const pipelines = 300
			for range pipelines {
				read()
			}
			all, total := at.take(), 0
			for _, n := range all {
				total += n
			}
			// One that is answered takes one; a few come while the silence is being noticed.
			if t.Log(silent.Addr, all); total > pipelines+20 {
				t.Errorf("%d attempts for %d pipelines: %v", total, pipelines, all)
			}
		})
	}
}

// Reads that go-redis sends to a primary that is away go to a replica, long before
// sentinels put another primary in its place.
func TestReadsOnSentinelsDontWaitForThePrimary(t *testing.T) {
	testkit.Waits(t)
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{DownAfter: time.Hour})
	rdb := redis.NewFailoverClusterClient(patientDriver(t).FailoverOptions(&redis.FailoverOptions{
		MasterName: s.Name, SentinelAddrs: s.Addrs(), RouteRandomly: true,
	}))
	defer rdb.Close()
	read := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // the primary is waited for longer
		defer cancel()
		return rdb.Exists(ctx, "a").Err()
	}
	for range 50 { // all nodes are read from
		if err := read(); err != nil {
			t.Fatal(err)
		}
	}
	s.Server(s.Master()).Kill()
	for range 100 {
		if err := read(); err != nil {
			t.Fatal(err)
		}
	}
}
