package otelhooks

import (
	"errors"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/observing"
	"github.com/everpool/everpool/internal/wiring"
)

// Option is for driver.Open, driver.NewManager, Manager.Add and Driver.Watch: it tells
// OpenTelemetry all that there is of a client and of the pools that it stands on, by a
// [Tracing], a [Metrics] and a [Pool] that are made with the settings, and that end with
// the client. What isn't wanted is left out by a provider that does nothing (packages
// trace/noop and metric/noop of OpenTelemetry). It is a driver.Option.
//
// An Option may be for several clients, which are told of together; the pools are those
// of the driver, which a manager's clients have in common: given to NewManager they are
// told of once, and given to several calls of Add by each.
func Option(settings ...Setting) wiring.Option { return &option{settings: settings} }

type option struct {
	settings []Setting
	shared   observing.Shared[*everything]
}

// everything is what an option has made.
type everything struct {
	tracing hooks.Observer
	metrics *Metrics
	pool    *Pool
}

// Wire is for package driver.
func (o *option) Wire(c *wiring.Client) error {
	all, err := o.shared.Use(c, o.make)
	if err != nil {
		return err
	}
	observing.AddTracing(c, all.tracing)
	observing.Add(c, all.metrics)
	c.Courses = append(c.Courses, addCourse)
	c.Pools = append(c.Pools, wiring.Pools{
		Key:     all.pool,
		Watch:   func(n wiring.Nodes) (func(), error) { return all.pool.Watch(n) },
		OnEvent: all.pool.OnEvent,
		OnWait:  all.pool.OnWait,
	})
	return nil
}

func (o *option) make() (*everything, func() error, error) {
	cfg, err := newConfig(o.settings)
	if err != nil {
		return nil, nil, err
	}
	tracing := hooks.Filter(newTracing(cfg), cfg.keepSpans)
	metrics, err := NewMetrics(o.settings...)
	if err != nil {
		return nil, nil, err
	}
	pool, err := NewPool(o.settings...)
	if err != nil {
		return nil, nil, errors.Join(err, metrics.Close())
	}
	return &everything{tracing, metrics, pool}, func() error { return errors.Join(metrics.Close(), pool.Close()) }, nil
}
