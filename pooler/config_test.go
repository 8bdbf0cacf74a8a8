package pooler_test

import (
	"context"
	"errors"
	"net"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/pooler"
)

func TestEachBadFieldIsNamedWithItsValueAndWhatIsAllowed(t *testing.T) {
	for _, tc := range []struct {
		cfg  pooler.Config
		want string
	}{
		{pooler.Config{MaxOpenConns: -2}, "MaxOpenConns is -2; allowed are -1 and more"},
		{pooler.Config{SharedConns: -2}, "SharedConns is -2; allowed are -1 and more"},
		{pooler.Config{SharedConns: 3, MaxOpenConns: 2}, "SharedConns is 3; allowed is at most MaxOpenConns, 2"},
		{pooler.Config{MinIdleConns: -2}, "MinIdleConns is -2; allowed are -1 and more"},
		{pooler.Config{MaxIdleConns: -2}, "MaxIdleConns is -2; allowed are -1 and more"},
		{pooler.Config{MaxConcurrentDials: -2}, "MaxConcurrentDials is -2; allowed are -1 and more"},
		{pooler.Config{MaxWaiters: -2}, "MaxWaiters is -2; allowed are -1 and more"},
		{pooler.Config{ConnMaxIdleTime: -time.Second}, "ConnMaxIdleTime is -1s; allowed are -1, 0 and 1ms or more"},
		{pooler.Config{ConnMaxLifetime: -2}, "ConnMaxLifetime is -2ns; allowed are -1, 0 and 1ms or more"},
		{pooler.Config{ConnMaxLifetimeJitter: -time.Hour}, "ConnMaxLifetimeJitter is -1h0m0s; allowed are -1, 0 and 1ms or more"},
		{pooler.Config{WaitTimeout: -time.Second}, "WaitTimeout is -1s; allowed are -1, 0 and 1ms or more"},
		{pooler.Config{HealthCheckInterval: -time.Second}, "HealthCheckInterval is -1s; allowed are -1, 0 and 1ms or more"},
		{pooler.Config{FailFastAfter: -time.Second}, "FailFastAfter is -1s; allowed are -1, 0 and 1ms or more"},
		{pooler.Config{SilenceAfter: -time.Second}, "SilenceAfter is -1s; allowed are -1, 0 and 1ms or more"},
		{pooler.Config{DialTimeout: -1}, "DialTimeout is -1ns; allowed are 0 and 1ms or more, it can't be switched off"},
		{pooler.Config{HealthCheckTimeout: -1}, "HealthCheckTimeout is -1ns; allowed are 0 and 1ms or more, it can't be switched off"},
		{pooler.Config{BackoffMin: -1}, "BackoffMin is -1ns; allowed are 0 and 1ms or more, it can't be switched off"},
		{pooler.Config{BackoffMax: -1}, "BackoffMax is -1ns; allowed are 0 and 1ms or more, it can't be switched off"},
		{pooler.Config{MaxOpenConns: 3, MinIdleConns: 4, MaxIdleConns: 5}, "MinIdleConns is 4; allowed is at most MaxOpenConns, 3"},
		{pooler.Config{MinIdleConns: 4, MaxIdleConns: 3}, "MinIdleConns is 4; allowed is at most MaxIdleConns, 3"},
		{pooler.Config{MinIdleConns: 1, MaxIdleConns: -1}, "MinIdleConns is 1; allowed is at most MaxIdleConns, 0"},
		{pooler.Config{BackoffMin: time.Minute, BackoffMax: time.Second}, "BackoffMin is 1m0s; allowed is at most BackoffMax, 1s"},
		{
			pooler.Config{ConnMaxLifetime: time.Second, ConnMaxLifetimeJitter: time.Minute},
			"ConnMaxLifetimeJitter is 1m0s; allowed is at most ConnMaxLifetime, 1s",
		},
		{pooler.Config{ConnMaxLifetimeJitter: time.Minute}, "ConnMaxLifetimeJitter is 1m0s; allowed is at most ConnMaxLifetime, 0s"},
	} {
		err := tc.cfg.Validate()
		want := "everpool: bad configuration: " + tc.want
		if err == nil || err.Error() != want || !errors.Is(err, pooler.ErrConfig) {
			t.Errorf("Validate says %v, want %s", err, want)
		}
	}
}

// 5 where 5 * time.Second was meant would be taken for 5 ns.
func TestANumberWithoutItsUnitIsRefusedWhereADurationBelongs(t *testing.T) {
	for i, f := range reflect.VisibleFields(reflect.TypeFor[pooler.Config]()) {
		if f.Type != reflect.TypeFor[time.Duration]() {
			continue
		}
		for _, v := range []time.Duration{1, 5, 5000, time.Millisecond - 1} {
			cfg := pooler.Config{ConnMaxLifetime: time.Hour}
			reflect.ValueOf(&cfg).Elem().Field(i).SetInt(int64(v))
			err := cfg.Validate()
			if !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), f.Name+" is "+v.String()) || !strings.Contains(err.Error(), "unit") {
				t.Errorf("%s of %s: %v", f.Name, v, err)
			}
		}
		cfg := pooler.Config{ConnMaxLifetime: time.Hour, BackoffMin: time.Millisecond}
		reflect.ValueOf(&cfg).Elem().Field(i).SetInt(int64(time.Millisecond))
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s of 1ms: %v", f.Name, err)
		}
	}
}

func TestEverythingThatIsWrongIsInOneError(t *testing.T) {
	_, err := pooler.New(pooler.Node{}, pooler.Config{
		MaxWaiters: -5, WaitTimeout: -5, BackoffMin: -5, // each bad by itself
		MaxOpenConns: 1, MinIdleConns: 2, // bad together
	})
	if !errors.Is(err, pooler.ErrConfig) {
		t.Fatalf("error is %v", err)
	}
	for _, part := range []string{"MaxWaiters", "WaitTimeout", "BackoffMin", "MinIdleConns is 2; allowed is at most MaxOpenConns, 1", "Node.Dial"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in: %v", part, err)
		}
	}
}

func TestOffIsAllowedWhereTheCommentSaysSo(t *testing.T) {
	cfg := pooler.Config{
		MaxOpenConns: -1, SharedConns: -1, MinIdleConns: -1, MaxIdleConns: -1, MaxConcurrentDials: -1, MaxWaiters: -1,
		ConnMaxIdleTime: -1, ConnMaxLifetime: -1, ConnMaxLifetimeJitter: -1, WaitTimeout: -1,
		HealthCheckInterval: -1, SilenceAfter: -1, FailFastAfter: -1,
	}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestDefaultsAreThoseOfTheComments(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	want := pooler.Config{
		MaxOpenConns:        10 * procs,
		SharedConns:         8,
		MaxIdleConns:        10 * procs,
		MaxConcurrentDials:  1<<31 - 1,
		MaxWaiters:          1<<31 - 1,
		ConnMaxIdleTime:     5 * time.Minute,
		DialTimeout:         5 * time.Second,
		WaitTimeout:         5 * time.Second,
		HealthCheckInterval: 5 * time.Second,
		HealthCheckTimeout:  2 * time.Second,
		SilenceAfter:        200 * time.Millisecond,
		FailFastAfter:       5 * time.Second,
		BackoffMin:          10 * time.Millisecond,
		BackoffMax:          time.Second,
	}
	if diff := cmp.Diff(want, pooler.Config{}.Limits()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := (pooler.Config{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	if got := (pooler.Config{ConnMaxLifetime: time.Hour}).Limits().ConnMaxLifetimeJitter; got != 6*time.Minute {
		t.Errorf("jitter is %s, want a tenth of the lifetime", got)
	}
	if got := (pooler.Config{MaxOpenConns: 3}).Limits().MaxIdleConns; got != 3 {
		t.Errorf("MaxIdleConns is %d, want MaxOpenConns", got)
	}
}

// What a pool says of its configuration is what it works by, in a form that can be given
// to a pool: off stays off.
func TestAPoolTellsTheConfigurationInForce(t *testing.T) {
	off := pooler.Config{
		MaxOpenConns: -1, SharedConns: -1, MinIdleConns: -1, MaxIdleConns: -1, MaxConcurrentDials: -1, MaxWaiters: -1,
		ConnMaxIdleTime: -1, ConnMaxLifetime: -1, ConnMaxLifetimeJitter: -1, WaitTimeout: -1,
		HealthCheckInterval: -1, SilenceAfter: -1, FailFastAfter: -1,
	}
	some := pooler.Config{MaxOpenConns: 7, MinIdleConns: 2, ConnMaxLifetime: time.Hour, BackoffMin: 2 * time.Second, MaxWaiters: 9}
	for name, cfg := range map[string]pooler.Config{"zero": {}, "off": off, "some": some} {
		limits := cfg.Limits()
		cfg.OnEvent = func(pooler.Event) {}
		pt := newTester(t, cfg)
		got := pt.pool.Config()
		if diff := cmp.Diff(limits, got.Limits()); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", name, diff)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	pt := newTester(t, some)
	pt.pool.SetMaxOpenConns(5)
	pt.pool.SetMaxIdleConns(-1)
	pt.pool.SetConnMaxIdleTime(-1)
	pt.pool.SetConnMaxLifetime(10 * time.Minute)
	got := pt.pool.Config()
	if got.MaxOpenConns != 5 || got.MaxIdleConns != -1 || got.MinIdleConns != -1 || got.ConnMaxIdleTime != -1 || got.ConnMaxLifetimeJitter != time.Minute || got.MaxWaiters != 9 {
		t.Errorf("with the knobs turned: %+v", got)
	}
}

func TestADialThatReturnsNothingIsAFailure(t *testing.T) {
	p, err := pooler.New(pooler.Node{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, nil }},
		pooler.Config{FailFastAfter: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if _, err := p.Get(t.Context(), pooler.Request{Session: pooler.NewSession()}); !errors.Is(err, pooler.ErrNodeDown) {
		t.Errorf("Get: %v, want ErrNodeDown", err)
	}
}
