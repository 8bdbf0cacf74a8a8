package bench

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/everpool/everpool/internal/testkit"
)

// Plan is a whole comparison.
type Plan struct {
	Server *Server
	Peers  []Peer
	Cases  []Case
	Rounds int
	Time   time.Duration // of each client in each round

	Network time.Duration // that a round trip takes besides; not for clusters
	Beside  Beside

	// Progress is told of each round, and of errors. Required.
	Progress io.Writer
}

// Result is what was measured in one case.
type Result struct {
	Case   Case
	Peers  []Peer
	Rounds [][]Run // by round, then by peer
}

// Run runs the plan. When ctx is done it returns what there is: only rounds in
// which every client had its turn.
func (p Plan) Run(ctx context.Context) ([]Result, error) {
	var results []Result
	for _, peer := range p.Peers {
		if len(p.Server.others) > 0 && !peer.Cluster {
			return nil, fmt.Errorf("%s isn't a client of clusters here", peer.Name)
		}
	}
	addr := p.Server.Addr
	if p.Network > 0 {
		proxy, err := testkit.StartProxy(addr)
		if err != nil {
			return nil, err
		}
		defer proxy.Close()
		proxy.Delay(p.Network / 2)
		addr = proxy.Addr()
	}
	began, done := time.Now(), 0
	for _, c := range p.Cases {
		if ctx.Err() != nil {
			break
		}
		if err := p.Server.fill(ctx, c.Workload, p.Beside); err != nil {
			return results, fmt.Errorf("filling the server: %w", err)
		}
		result := Result{Case: c, Peers: p.Peers}
		for number := range p.Rounds {
			fmt.Fprintf(p.Progress, "%s: round %d of %d; %s\n",
				c, number+1, p.Rounds, p.left(time.Since(began), done))
			runs, ok := p.round(ctx, addr, c, number)
			if !ok {
				break
			}
			result.Rounds = append(result.Rounds, runs)
			done++
		}
		if len(result.Rounds) > 0 {
			results = append(results, result)
		}
	}
	return results, nil
}

// round gives each client its turn, beginning with another one each time. It
// reports false if it was interrupted.
func (p Plan) round(ctx context.Context, addr string, c Case, number int) ([]Run, bool) {
	runs := make([]Run, len(p.Peers))
	for turn := range p.Peers {
		i := (turn + number) % len(p.Peers)
		r := p.run(ctx, addr, p.Peers[i], c)
		if ctx.Err() != nil {
			return nil, false
		}
		if r.Failed > 0 {
			fmt.Fprintf(p.Progress, "  %s: %d operations failed: %v\n", p.Peers[i].Name, r.Failed, r.Err)
		}
		runs[i] = r
	}
	return runs, true
}

// left says how much there is still to do.
func (p Plan) left(elapsed time.Duration, done int) string {
	total := len(p.Cases) * p.Rounds
	each := time.Duration(len(p.Peers)) * p.Time * 3 / 2 // a guess, with the warm-up
	if done > 0 {
		each = elapsed / time.Duration(done)
	}
	return fmt.Sprintf("%d of %d rounds left, about %s", total-done, total, (time.Duration(total-done) * each).Round(time.Second))
}
