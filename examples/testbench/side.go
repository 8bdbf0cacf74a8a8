package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/pooler"
	"github.com/everpool/everpool/promhooks"
)

// side is one of the drivers: a go-redis client, what its callers saw, and what became
// of their writes.
type side struct {
	name     string
	rdb      redis.UniversalClient
	replicas redis.UniversalClient // reads from replicas; nil where there are none
	net      *network
	drv      *driver.Driver // nil on go-redis's own pool
	keys     *hotkey.Tracker
	wave     int // callers at the height of a wave
	tally    tally
	ledger   ledger

	published, received atomic.Int64 // messages

	closers []func() error // in the opposite order
}

// newSide makes the client of a driver. Both drivers have the same options.
func newSide(name string, top servers, set settings, metrics prometheus.Registerer) (_ *side, err error) {
	s := &side{name: name, wave: set.wave, ledger: ledger{driver: name}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.net, err = newNetwork(top.addrs()); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() error { s.net.close(); return nil })

	open := s.stock
	if name == driverEverpool {
		if open, err = s.everpool(metrics); err != nil {
			return nil, err
		}
	}
	s.rdb = open(options(top, set.timeout))
	s.closers = append(s.closers, s.rdb.Close)
	if set.topology == topologyCluster {
		o := options(top, set.timeout)
		o.RouteRandomly = true
		s.replicas = open(o)
		s.closers = append(s.closers, s.replicas.Close)
	}
	if s.drv == nil {
		pool, err := promhooks.NewStockPool(name, s.rdb)
		if err != nil {
			return nil, err
		}
		if err := metrics.Register(pool); err != nil {
			return nil, err
		}
	}
	return s, s.observe(metrics)
}

// options are those that both drivers' clients are made with.
func options(top servers, timeout time.Duration) *redis.UniversalOptions {
	o := top.options()
	o.ReadTimeout, o.WriteTimeout = timeout, timeout
	return o
}

// stock opens a client on go-redis's own pool.
func (s *side) stock(o *redis.UniversalOptions) redis.UniversalClient {
	o.Dialer = s.net.dial
	return redis.NewUniversalClient(o)
}

// everpool makes a driver, and returns what opens clients on it.
func (s *side) everpool(metrics prometheus.Registerer) (func(*redis.UniversalOptions) redis.UniversalClient, error) {
	pool, err := promhooks.NewPool(s.name)
	if err != nil {
		return nil, err
	}
	s.drv, err = driver.New(driver.Config{
		Pool:   pool.Instrument(pooler.Config{}),
		Dial:   s.net.dial,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.drv.Close)
	if _, err := pool.Watch(s.drv); err != nil {
		return nil, err
	}
	return func(o *redis.UniversalOptions) redis.UniversalClient {
		return redis.NewUniversalClient(s.drv.UniversalOptions(o))
	}, metrics.Register(pool)
}

// observe attaches metrics and the search for hot keys to the client.
func (s *side) observe(registry prometheus.Registerer) (err error) {
	s.keys, err = hotkey.New(hotkey.Config{
		ReadSampleRate: 0.2, Window: 5 * time.Second, TopN: hotShown,
		Normalize: shortKey,
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.keys.Close)
	hot, err := s.keys.Collector(hotkey.CollectorConfig{
		Client: s.name, TopN: hotShown, Allow: func(string) bool { return true }, // none is anybody's
	})
	if err != nil {
		return err
	}
	if err := registry.Register(hot); err != nil {
		return err
	}
	metrics, err := promhooks.NewMetrics(s.name)
	if err != nil {
		return err
	}
	hook, err := hooks.New(metrics, s.keys)
	if err != nil {
		return err
	}
	_, err = hook.Attach(s.rdb)
	if s.replicas != nil {
		_, err2 := hook.Attach(s.replicas)
		err = errors.Join(err, err2)
	}
	return errors.Join(err, registry.Register(metrics))
}

// unknown says whether a write that failed with err may have run. everpool says so of
// each. go-redis alone doesn't, and may have tried several times: there every one may.
func (s *side) unknown(err error) bool {
	return s.drv == nil || errors.Is(err, pooler.ErrUnknownOutcome)
}

// call times a call of the driver and counts how it ended.
func (s *side) call(do func(context.Context) error) error {
	began := time.Now()
	err := do(context.Background()) // what has begun is finished
	s.tally.note(began, err)
	return err
}

// close ends everything in the opposite order of its making.
func (s *side) close() error {
	var errs []error
	for _, end := range slices.Backward(s.closers) {
		errs = append(errs, end())
	}
	s.closers = nil
	return errors.Join(errs...)
}
