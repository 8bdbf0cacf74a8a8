package hotkey

import (
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/observing"
	"github.com/everpool/everpool/internal/tracking"
	"github.com/everpool/everpool/internal/wiring"
)

// Option is for driver.Open, driver.NewManager, Manager.Add and Driver.Watch: it has the
// keys of a client counted by a [Tracker] that is made for it and closed before it.
// [OwnClient] in the place of the Sink is that client. made is told of each tracker, whose
// Handler and Top show what it has counted, before the client is returned; nil: nothing is
// told. It is a driver.Option.
func Option(cfg Config, made func(*Tracker)) wiring.Option { return &option{cfg, made} }

// OwnClient is a [Sink] for [Option] only: the client whose keys are counted.
var OwnClient Sink = ownClient{}

// What driver.ConfigFromMap has done it needs to know, which doesn't import this package.
func init() {
	tracking.Option = func(reads, writes float64) wiring.Option {
		return Option(Config{ReadSampleRate: reads, WriteSampleRate: writes, Sink: OwnClient}.WithBaseplateNames(), nil)
	}
}

// ownClient stands for a client, and is none.
type ownClient struct{ redis.UniversalClient }

type option struct {
	cfg  Config
	made func(*Tracker)
}

// Wire is for package driver.
func (o *option) Wire(c *wiring.Client) error {
	cfg := o.cfg
	if _, own := cfg.Sink.(ownClient); own {
		cfg.Sink = c.Redis
	}
	t, err := New(cfg)
	if err != nil {
		return err
	}
	c.AtEnd(t.Close)
	observing.Add(c, t)
	if o.made != nil {
		o.made(t)
	}
	return nil
}
