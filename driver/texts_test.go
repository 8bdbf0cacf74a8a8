package driver_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// What a caller is told again and again has the same text, whatever the time, the
// number of dials and how long it has waited: monitoring groups by it.
func TestErrorsThatComeAgainHaveOneTextAndNoNumbers(t *testing.T) {
	down := driver.Config{Pool: pooler.Config{FailFastAfter: time.Second}}
	for name, c := range map[string]struct {
		cfg   driver.Config
		begin func(t *lab)
		again func(t *lab, i int, rdb *redis.Client) error
	}{
		pooler.ErrNodeDown.Error() + ": " + labAddr + ": dial tcp " + labAddr + ": connect: connection refused": {
			down, func(t *lab) { t.f.DownRefused() },
			func(t *lab, i int, rdb *redis.Client) error {
				time.Sleep(time.Duration(i) * time.Second)
				return rdb.Ping(t.Context()).Err()
			},
		},
		"dial everpool: " + pooler.ErrWaitTimeout.Error() + ": " + labAddr + ": most connections are held by BLPOP": {
			driver.Config{Pool: pooler.Config{MaxOpenConns: 2, SharedConns: -1}},
			func(t *lab) {
				for range 2 {
					t.handle().send("BLPOP q 0")
				}
			},
			func(t *lab, i int, _ *redis.Client) error {
				v := t.handle(func(o *redis.Options) { o.PoolTimeout = time.Duration(i+1) * 1001 * time.Millisecond })
				_, err := v.Write([]byte(frames("GET k")))
				return err
			},
		},
		pooler.ErrUnknownOutcome.Error() + ": " + labAddr + ": read tcp " + labAddr + ": read: connection reset by peer": {
			driver.Config{},
			func(t *lab) { t.spoiled("INCR", 1000, spoil["lost before the reply"]) },
			func(t *lab, i int, rdb *redis.Client) error {
				time.Sleep(time.Duration(i) * time.Second)
				return rdb.Incr(t.Context(), "n").Err()
			},
		},
		"everpool: connection lost: " + labAddr + ": read tcp " + labAddr + ": read: connection reset by peer": {
			driver.Config{},
			func(t *lab) { t.spoiled("SET", 1000, spoil["lost before the reply"]) },
			func(t *lab, i int, rdb *redis.Client) error {
				time.Sleep(time.Duration(i) * time.Second)
				return rdb.Set(t.Context(), fmt.Sprint(i), i, 0).Err()
			},
		},
		"everpool: " + labAddr + ": i/o timeout: the request was sent, its outcome is unknown": {
			driver.Config{},
			func(*lab) {},
			func(t *lab, i int, _ *redis.Client) error {
				v := t.handle()
				v.do("PING", "+PONG")
				t.f.Freeze(true)
				defer t.f.Freeze(false)
				v.send("INCR n")
				_ = v.SetReadDeadline(time.Now().Add(time.Duration(i+1) * time.Second))
				return v.failure()
			},
		},
	} {
		t.Run(name[:30], func(t *testing.T) {
			inLab(t, c.cfg, func(t *lab) {
				rdb := t.client()
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				c.begin(t)
				for i := range 3 {
					err := c.again(t, i, rdb)
					if err == nil || err.Error() != name {
						t.Errorf("%v, want %s", err, name)
					}
					if text := strings.ReplaceAll(fmt.Sprint(err), labAddr, ""); regexp.MustCompile(`\d`).MatchString(text) {
						t.Errorf("numbers in %q", text)
					}
				}
			})
		})
	}
}
