package otelhooks

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/poolview"
)

// reading is one value of a pool's metric.
type reading struct {
	of    *poolMetric
	pool  string
	value string // of the metric's attribute; "" if it has none
}

// addFunc takes one value that was read; from tells apart what the same counter is read
// from, and part says that it is a sum of several: see [poolview.Counters.Count].
type addFunc func(r reading, from poolview.Source, part bool, v int64)

// readFunc gives what there is to read to add, once for each value.
type readFunc func(add addFunc)

// collector gives the SDK what pools say, whenever it collects.
type collector struct {
	extra        []attribute.KeyValue
	read         readFunc
	ints         map[*poolMetric]metric.Int64Observable
	floats       map[*poolMetric]metric.Float64Observable
	registration metric.Registration

	// collecting is held for a whole collection, the reading of the pools
	// included: counters have to be seen in the order in which they were read.
	// Nothing else takes it.
	collecting sync.Mutex
	counters   poolview.Counters[poolview.Source, reading]
}

// newCollector makes the instruments and registers them. read is called at each
// collection; what it adds to the same reading is added up, times excepted, of
// which the longest counts.
func newCollector(cfg *meterConfig, metrics []*poolMetric, read readFunc) (*collector, error) {
	c := &collector{
		extra:  cfg.attributes,
		read:   read,
		ints:   make(map[*poolMetric]metric.Int64Observable),
		floats: make(map[*poolMetric]metric.Float64Observable),
	}
	meter := cfg.meter()
	var all []metric.Observable
	for _, m := range metrics {
		instrument, err := c.add(meter, m)
		if err != nil {
			return nil, refused(err)
		}
		all = append(all, instrument)
	}
	var err error
	if c.registration, err = meter.RegisterCallback(c.collect, all...); err != nil {
		return nil, refused(err)
	}
	return c, nil
}

// add makes one instrument.
func (c *collector) add(meter metric.Meter, m *poolMetric) (metric.Observable, error) {
	unit, text := metric.WithUnit(m.unit), metric.WithDescription(m.text)
	var err error
	switch m.kind {
	case counter:
		c.ints[m], err = meter.Int64ObservableCounter(m.name, unit, text)
	case upDown:
		c.ints[m], err = meter.Int64ObservableUpDownCounter(m.name, unit, text)
	default:
		c.floats[m], err = meter.Float64ObservableGauge(m.name, unit, text)
		return c.floats[m], err
	}
	return c.ints[m], err
}

// collect is called by the SDK, once for each of its readers. It says all or, if
// that can't be read, nothing: half of what is added up would look like a counter
// that has gone back.
func (c *collector) collect(_ context.Context, to metric.Observer) error {
	c.collecting.Lock()
	defer c.collecting.Unlock()
	gauges, counts, err := c.values()
	if err != nil {
		return err
	}
	for r, v := range gauges {
		attrs := metric.WithAttributeSet(c.attributes(r))
		if r.of.kind == seconds {
			to.ObserveFloat64(c.floats[r.of], time.Duration(v).Seconds(), attrs)
		} else {
			to.ObserveInt64(c.ints[r.of], v, attrs)
		}
	}
	c.counters.Begin()
	for _, n := range counts {
		c.counters.Count(n.from, n.of, n.v, n.part)
	}
	c.counters.Each(func(r reading, total int64) {
		to.ObserveInt64(c.ints[r.of], total, metric.WithAttributeSet(c.attributes(r)))
	})
	c.counters.End()
	return nil
}

// count is what was read of a counter.
type count struct {
	of   reading
	from poolview.Source
	part bool
	v    int64
}

// values reads everything. What is read is the user's, and so may panic.
func (c *collector) values() (gauges map[reading]int64, counts []count, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = guard.PanicError("otelhooks: reading the pools", v)
		}
	}()
	gauges = make(map[reading]int64)
	c.read(func(r reading, from poolview.Source, part bool, v int64) {
		switch r.of.kind {
		case counter:
			counts = append(counts, count{r, from, part, v})
		case seconds:
			gauges[r] = max(gauges[r], v)
		default:
			gauges[r] += v
		}
	})
	return gauges, counts, nil
}

func (c *collector) attributes(r reading) attribute.Set {
	attrs := append(slices.Clone(c.extra), poolName(r.pool))
	if r.value != "" {
		attrs = append(attrs, r.of.attribute.String(r.value))
	}
	return attribute.NewSet(attrs...)
}
