package debugpage

import (
	"math"
	"strconv"
	"time"

	"github.com/everpool/everpool/pooler"
)

// setting is one of a pool's, as it is in force.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func settingsOf(cfg pooler.Config) []setting {
	cfg = cfg.Limits()
	bound := func(n int) string {
		switch n {
		case 0:
			return "none"
		case math.MaxInt32:
			return "no bound"
		}
		return strconv.Itoa(n)
	}
	period := func(d time.Duration) string {
		switch d {
		case 0:
			return "off"
		case math.MaxInt64:
			return "never"
		}
		return d.String()
	}
	return []setting{
		{"MaxOpenConns", bound(cfg.MaxOpenConns)},
		{"SharedConns", bound(cfg.SharedConns)},
		{"MinIdleConns", bound(cfg.MinIdleConns)},
		{"MaxIdleConns", bound(cfg.MaxIdleConns)},
		{"MaxConcurrentDials", bound(cfg.MaxConcurrentDials)},
		{"MaxWaiters", bound(cfg.MaxWaiters)},
		{"ConnMaxIdleTime", period(cfg.ConnMaxIdleTime)},
		{"ConnMaxLifetime", period(cfg.ConnMaxLifetime)},
		{"ConnMaxLifetimeJitter", period(cfg.ConnMaxLifetimeJitter)},
		{"DialTimeout", period(cfg.DialTimeout)},
		{"WaitTimeout", period(cfg.WaitTimeout)},
		{"HealthCheckInterval", period(cfg.HealthCheckInterval)},
		{"HealthCheckTimeout", period(cfg.HealthCheckTimeout)},
		{"SilenceAfter", period(cfg.SilenceAfter)},
		{"FailFastAfter", period(cfg.FailFastAfter)},
		{"BackoffMin", period(cfg.BackoffMin)},
		{"BackoffMax", period(cfg.BackoffMax)},
	}
}
