package poolview

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Kind says how a metric moves.
type Kind uint8

// The kinds.
const (
	Counter   Kind = iota // only grows
	Gauge                 // what there is now
	Histogram             // recorded as it happens, and not read
)

// Preset is whose names a metric has, for dashboards that exist already; "": our own.
type Preset string

// The presets.
const (
	Baseplate    Preset = "Baseplate"
	RedisManager Preset = "redis-manager"
)

// NoBound is the value of a bound that there isn't.
const NoBound int64 = math.MaxInt64

// Metric is a metric of pools, as both exporters have it.
type Metric struct {
	OTel       string // "": it isn't exported there
	Prometheus string // the same
	Kind       Kind
	Unit       string // as OpenTelemetry writes it; "s" is read in nanoseconds
	Attribute  string // OpenTelemetry's name for what Values are of, besides the pool's name
	Label      string // Prometheus's, besides client and node
	Values     string // of them, for people
	Help       string
	Preset     Preset

	Stock  []string // the values that go-redis's own pool tells, "" without a label; nil: it doesn't
	Single bool     // of a stock client it is told only of one of a single node
	Whole  bool     // all nodes are added up

	read  func(p *Pool, add func(value string, n int64))
	merge func(a, b int64) int64 // of what has the same name; nil: the sum. Of gauges only
}

// Text is the description, which says whose name it is.
func (m *Metric) Text() string {
	if m.Preset == "" {
		return m.Help
	}
	return strings.TrimSuffix(m.Help, ".") + " (" + string(m.Preset) + "'s name)."
}

// Float is a value as it is exported: in seconds, and without a bound +Inf.
func (m *Metric) Float(n int64) float64 {
	switch {
	case n == NoBound:
		return math.Inf(1)
	case m.Unit == "s":
		return time.Duration(n).Seconds()
	}
	return float64(n)
}

// Metrics are those of the table that keep returns true for, in its order.
func Metrics(keep func(*Metric) bool) []*Metric {
	var all []*Metric
	for i := range table {
		if keep(&table[i]) {
			all = append(all, &table[i])
		}
	}
	return all
}

// tells reports whether a pool tells a value of the metric.
func (m *Metric) tells(p *Pool, value string) bool {
	return p.Stock == nil || slices.Contains(m.Stock, value) && !(m.Single && p.Stock.Group)
}

func (m *Metric) merged(a, b int64) int64 {
	switch {
	case m.merge != nil:
		return m.merge(a, b)
	case a == NoBound || b == NoBound:
		return NoBound
	}
	return a + b
}

func largest(a, b int64) int64 { return max(a, b) }
func least(a, b int64) int64   { return min(a, b) }
