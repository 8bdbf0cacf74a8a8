package bench

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// measure is one thing that is measured: a column of the tables.
type measure struct {
	name   string
	of     func(*Run) float64 // NaN: not known
	format func(float64) string
}

// measures are all columns but the ratios.
var (
	rate      = measure{"ops/s", func(r *Run) float64 { return known(float64(r.Ops) / r.Elapsed.Seconds()) }, formatCount}
	clientCPU = measure{"client CPU/op", func(r *Run) float64 { return known(r.perOp(float64(r.CPU))) }, formatTime}

	others = []measure{
		{"allocs/op", func(r *Run) float64 { return r.perOp(float64(r.Mallocs)) }, formatSmall},
		{"B/op", func(r *Run) float64 { return r.perOp(float64(r.Bytes)) }, formatCount},
		{"p50", quantile(0.5), formatTime},
		{"p99", quantile(0.99), formatTime},
		{"p99.9", quantile(0.999), formatTime},
		{"idle heap", func(r *Run) float64 { return known(float64(max(r.Idle, 0))) }, formatSize},
		{"sockets", func(r *Run) float64 { return r.ofServer(float64(r.Sockets)) }, formatCount},
		{"server CPU/op", func(r *Run) float64 { return r.ofServer(r.perOp(float64(r.ServerCPU))) }, formatTime},
	}
)

// failed is in a table only if something did.
var failed = measure{"failed ops", func(r *Run) float64 { return float64(r.Failed) }, formatCount}

func (r *Run) perOp(v float64) float64 {
	if r.Ops == 0 {
		return math.NaN()
	}
	return v / float64(r.Ops)
}

func (r *Run) ofServer(v float64) float64 {
	if r.NoServer {
		return math.NaN()
	}
	return v
}

// known turns what was measured as nothing into what isn't known: a ratio to it
// would be infinite.
func known(v float64) float64 {
	if v == 0 {
		return math.NaN()
	}
	return v
}

func quantile(q float64) func(*Run) float64 {
	return func(r *Run) float64 {
		if r.Latency.Count() == 0 {
			return math.NaN()
		}
		return float64(r.Latency.Quantile(q) / time.Nanosecond)
	}
}

// values returns the measure of one peer in all rounds.
func (r Result) values(m measure, peer int) []float64 {
	all := make([]float64, len(r.Rounds))
	for i, round := range r.Rounds {
		all[i] = m.of(&round[peer])
	}
	return all
}

// ratios returns the measure of one peer relative to that of another in the same
// round.
func (r Result) ratios(m measure, peer, base int) []float64 {
	all, bases := r.values(m, peer), r.values(m, base)
	for i := range all {
		all[i] /= bases[i]
	}
	return all
}

// summary is the middle of several values, and how far they are spread.
type summary struct {
	median, low, high float64 // low and high are the quartiles
}

// summarize leaves out what isn't known; of nothing everything is NaN.
func summarize(values []float64) summary {
	sorted := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.SortFunc(sorted, cmp.Compare[float64])
	at := func(q float64) float64 {
		if len(sorted) == 0 {
			return math.NaN()
		}
		whole, part := math.Modf(q * float64(len(sorted)-1))
		low := sorted[int(whole)]
		high := sorted[min(int(whole)+1, len(sorted)-1)]
		return low + part*(high-low)
	}
	return summary{median: at(0.5), low: at(0.25), high: at(0.75)}
}
