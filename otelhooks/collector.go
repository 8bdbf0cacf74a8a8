package otelhooks

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/everpool/everpool/internal/guard"
)

// reading is one value of a pool's metric.
type reading struct {
	of    *poolMetric
	pool  string
	value string // of the metric's attribute; "" if it has none
}

// readFunc gives what there is to read to add, once for each value.
type readFunc func(add func(reading, int64))

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
	counts     counts
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
	values, err := c.values()
	if err != nil {
		return err
	}
	c.counts.next(values)
	for r, v := range values {
		attrs := metric.WithAttributeSet(c.attributes(r))
		switch r.of.kind {
		case seconds:
			to.ObserveFloat64(c.floats[r.of], time.Duration(v).Seconds(), attrs)
		case counter:
			to.ObserveInt64(c.ints[r.of], c.counts.totals[r].sum, attrs)
		default:
			to.ObserveInt64(c.ints[r.of], v, attrs)
		}
	}
	return nil
}

// values reads everything. What is read is the user's, and so may panic.
func (c *collector) values() (values map[reading]int64, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = guard.PanicError("otelhooks: reading the pools", v)
		}
	}()
	values = make(map[reading]int64)
	c.read(func(r reading, v int64) {
		if r.of.kind == seconds {
			values[r] = max(values[r], v)
		} else {
			values[r] += v
		}
	})
	return values, nil
}

func (c *collector) attributes(r reading) attribute.Set {
	attrs := append(slices.Clone(c.extra), poolName(r.pool))
	if r.value != "" {
		attrs = append(attrs, r.of.attribute.String(r.value))
	}
	return attribute.NewSet(attrs...)
}

// counts keeps counters from going backwards: where the one that is read does,
// since nodes have gone or a pool was made anew, the one that is reported stands
// still, and goes on from there.
type counts struct {
	totals map[reading]total
}

type total struct {
	last int64 // that was read; 0 if there was nothing to read
	sum  int64 // that is reported
}

// maxGone bounds the counters of pools that are gone, but may come back.
const maxGone = 8192

// next takes in what was read.
func (c *counts) next(values map[reading]int64) {
	if c.totals == nil {
		c.totals = make(map[reading]total)
	}
	gone := 0
	for r, t := range c.totals {
		if _, here := values[r]; here {
			continue
		}
		if gone++; gone > maxGone {
			delete(c.totals, r)
			continue
		}
		t.last = 0
		c.totals[r] = t
	}
	for r, v := range values {
		if r.of.kind == counter {
			t := c.totals[r]
			t.sum += max(0, v-t.last)
			t.last = v
			c.totals[r] = t
		}
	}
}
