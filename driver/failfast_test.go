package driver_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// Test suites that restart containers go on as soon as the port is open.
func TestTheFirstCallAfterALongOutageSucceeds(t *testing.T) {
	if !driver.Vetoes {
		t.Skip("idle handles are used, which wait in Write")
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{Pool: pooler.Config{FailFastAfter: time.Second}}, func(t *lab) {
				old := t.client()
				t.lose(old)
				for range 20 {
					t.wantErr(call(t.Context(), old), pooler.ErrNodeDown)
					time.Sleep(time.Second)
				}
				t.f.Up()
				began := time.Now()
				for _, rdb := range []*redis.Client{old, t.client(), t.client(func(o *redis.Options) { o.DB = 1 })} {
					if err := call(t.Context(), rdb); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(began); took > 20*time.Millisecond {
					t.Errorf("after %s", took)
				}
			})
		})
	}
}
