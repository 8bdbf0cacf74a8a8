package otelhooks

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/everpool/everpool/internal/poolview"
)

// collector gives the SDK what pools say, whenever it collects.
type collector struct {
	cfg          *config
	view         poolview.View
	read         func() []poolview.Pool
	name         func(*poolview.Pool) string
	ints         map[*poolview.Metric]metric.Int64Observable
	floats       map[*poolview.Metric]metric.Float64Observable
	registration metric.Registration
}

// newCollector makes the instruments of those metrics that keep returns true for, and
// registers them.
func newCollector(cfg *config, keep func(*poolview.Metric) bool, read func() []poolview.Pool, name func(*poolview.Pool) string) (*collector, error) {
	c := &collector{
		cfg: cfg, read: read, name: name,
		ints:   make(map[*poolview.Metric]metric.Int64Observable),
		floats: make(map[*poolview.Metric]metric.Float64Observable),
	}
	c.view.Doing = "otelhooks: reading the pools"
	c.view.Metrics = poolview.Metrics(func(m *poolview.Metric) bool {
		return m.OTel != "" && m.Kind != poolview.Histogram && (m.Preset == "" || cfg.baseplate != "") && keep(m)
	})
	var all []metric.Observable
	for _, m := range c.view.Metrics {
		instrument, err := c.add(m)
		if err != nil {
			return nil, refused(err)
		}
		all = append(all, instrument)
	}
	var err error
	if c.registration, err = cfg.meter().RegisterCallback(c.collect, all...); err != nil {
		return nil, refused(err)
	}
	return c, nil
}

// add makes one instrument.
func (c *collector) add(m *poolview.Metric) (metric.Observable, error) {
	meter, unit, text := c.cfg.meter(), metric.WithUnit(m.Unit), metric.WithDescription(m.Text())
	var err error
	switch {
	case m.Unit == "s":
		c.floats[m], err = meter.Float64ObservableGauge(m.OTel, unit, text)
		return c.floats[m], err
	case m.Kind == poolview.Counter:
		c.ints[m], err = meter.Int64ObservableCounter(m.OTel, unit, text)
	default:
		c.ints[m], err = meter.Int64ObservableUpDownCounter(m.OTel, unit, text)
	}
	return c.ints[m], err
}

// collect is called by the SDK, once for each of its readers. It says all or, if
// that can't be read, nothing.
func (c *collector) collect(_ context.Context, to metric.Observer) error {
	return c.view.Collect(c.read, c.name, func(s poolview.Series, n int64) {
		attrs := metric.WithAttributeSet(c.attributes(s))
		switch {
		case n == poolview.NoBound:
		case s.Unit == "s":
			to.ObserveFloat64(c.floats[s.Metric], s.Float(n), attrs)
		default:
			to.ObserveInt64(c.ints[s.Metric], n, attrs)
		}
	})
}

func (c *collector) attributes(s poolview.Series) attribute.Set {
	attrs := append(slices.Clone(c.cfg.metricAttributes), poolName(s.Pool))
	if s.Preset == poolview.Baseplate {
		attrs = append(attrs, attribute.String("client", c.cfg.baseplate))
	}
	if s.Value != "" {
		attrs = append(attrs, attribute.String(s.Attribute, s.Value))
	}
	return attribute.NewSet(attrs...)
}
