package hotkey

import (
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/tracking"
)

// What driver.ConfigFromMap has to start it needs to know, which doesn't import this
// package.
func init() { tracking.Start = start }

// start tracks the client's keys as Baseplate's tracker does.
func start(c redis.UniversalClient, reads, writes float64) (stop func() error, err error) {
	t, err := New(Config{ReadSampleRate: reads, WriteSampleRate: writes, Sink: c}.WithBaseplateNames())
	if err != nil {
		return nil, err
	}
	hook, err := hooks.New(t)
	if err == nil {
		_, err = hook.Attach(c)
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t.Close, nil
}
