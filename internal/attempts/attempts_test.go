package attempts_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/attempts"
	"github.com/everpool/everpool/internal/testkit"
)

func peer(i int) *hooks.Target {
	host := fmt.Sprintf("n%d", i)
	return &hooks.Target{Network: "tcp", Addr: host + ":1", Host: host, Port: 1}
}

// all is what was counted, by address and type of error.
func all(c *attempts.Counts) map[string]int64 {
	counts := make(map[string]int64)
	c.Each(func(p *hooks.Target, errorType string, n int64) { counts[p.Addr+" "+errorType] += n })
	return counts
}

// A node is known by its address: its client may be made anew.
func TestAttemptsCountByNodeAndEnding(t *testing.T) {
	var c attempts.Counts
	c.Of(peer(1), "").Add(1)
	c.Of(peer(1), "").Add(1)
	c.Of(peer(1), "MOVED").Add(1)
	c.Of(peer(2), "").Add(1)
	c.Of(peer(2), "ASK") // which nothing was added to
	want := map[string]int64{"n1:1 ": 2, "n1:1 MOVED": 1, "n2:1 ": 1}
	if diff := cmp.Diff(want, all(&c)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The first 128 nodes have counts of their own; others have one together.
func TestTheNodesAreBounded(t *testing.T) {
	var c attempts.Counts
	const nodes = attempts.MaxNodes + 20
	for range 2 {
		for i := range nodes {
			c.Of(peer(i), "MOVED").Add(1)
		}
	}
	got := all(&c)
	if len(got) != attempts.MaxNodes+1 || got["n0:1 MOVED"] != 2 || got["n127:1 MOVED"] != 2 || got["other MOVED"] != 2*20 {
		t.Errorf("%d series, %v", len(got), got)
	}
}

// However many are new at once: none is lost, and the bound holds.
func TestCountsAreForAll(t *testing.T) {
	var c attempts.Counts
	const goroutines, nodes = 8, 200
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range nodes {
				c.Of(peer((i+25*g)%nodes), []string{"", "MOVED"}[i%2]).Add(1)
				all(&c)
			}
		})
	}
	wg.Wait()
	sum, seen := int64(0), make(map[string]bool)
	c.Each(func(p *hooks.Target, _ string, n int64) {
		sum += n
		seen[p.Addr] = true
	})
	if sum != goroutines*nodes || len(seen) != attempts.MaxNodes+1 || !seen["other"] {
		t.Errorf("%d attempts of %d nodes, want %d of %d", sum, len(seen), goroutines*nodes, attempts.MaxNodes+1)
	}
}

// One of a node that has its own counts, and one of a node that hasn't.
func TestCountingDoesNotAllocate(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector allocates")
	}
	var c attempts.Counts
	for i := range attempts.MaxNodes + 1 {
		c.Of(peer(i), "MOVED").Add(1)
	}
	for _, p := range []*hooks.Target{peer(0), peer(attempts.MaxNodes)} {
		if n := testing.AllocsPerRun(100, func() { c.Of(p, "MOVED").Add(1) }); n != 0 {
			t.Errorf("%s: %v allocations", p.Addr, n)
		}
	}
}

func BenchmarkCount(b *testing.B) {
	var c attempts.Counts
	p := peer(1)
	b.ReportAllocs()
	for b.Loop() {
		c.Of(p, "").Add(1)
	}
}
