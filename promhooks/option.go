package promhooks

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/observing"
	"github.com/everpool/everpool/internal/wiring"
)

// Option is for driver.Open, driver.NewManager, Manager.Add and Driver.Watch: it has all
// that there is of a client and of the pools that it stands on in a registry, by a
// [Metrics] and a [Pool], which are made with the client's name and the settings, and are
// unregistered when the client is closed. It is a driver.Option.
//
// An Option may be for several clients, which are told of together; the pools are those
// of the driver, which a manager's clients have in common: given to NewManager they are
// told of once, and given to several calls of Add by each, which need a name of their own.
func Option(registry prometheus.Registerer, client string, settings ...Setting) wiring.Option {
	return &option{registry: registry, client: client, settings: settings}
}

type option struct {
	registry prometheus.Registerer
	client   string
	settings []Setting
	shared   observing.Shared[*everything]
}

// everything is what an option has made.
type everything struct {
	metrics *Metrics
	pool    *Pool
}

// Wire is for package driver.
func (o *option) Wire(c *wiring.Client) error {
	all, err := o.shared.Use(c, o.make)
	if err != nil {
		return err
	}
	observing.Add(c, all.metrics)
	c.Pools = append(c.Pools, wiring.Pools{
		Key:     all.pool,
		Watch:   func(n wiring.Nodes) (func(), error) { return all.pool.Watch(n) },
		OnEvent: all.pool.OnEvent,
	})
	return nil
}

func (o *option) make() (*everything, func() error, error) {
	metrics, err := NewMetrics(o.client, o.settings...)
	if guard.IsNil(o.registry) {
		err = errors.Join(err, errors.New("promhooks: Option: registry is nil; prometheus.DefaultRegisterer is one"))
	}
	if err != nil {
		return nil, nil, err
	}
	pool, err := NewPool(o.client, o.settings...)
	if err != nil {
		return nil, nil, err
	}
	if err := o.registry.Register(metrics); err != nil {
		return nil, nil, o.unregistered("client", err)
	}
	if err := o.registry.Register(pool); err != nil {
		o.registry.Unregister(metrics)
		return nil, nil, o.unregistered("pool", err)
	}
	return &everything{metrics, pool}, func() error {
		o.registry.Unregister(metrics)
		o.registry.Unregister(pool)
		return nil
	}, nil
}

// unregistered says whose metrics the registry has refused: what Prometheus says names none.
func (o *option) unregistered(kind string, err error) error {
	return fmt.Errorf("promhooks: Option: %s metrics of %q: %w; another Option needs a name of its own, and one Option may be for several clients", kind, o.client, err)
}
