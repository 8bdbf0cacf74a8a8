package acceptance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// A server is far away, and no caller has the time that a new connection and its handshake
// take. What each of them has begun is there for the next: with the stock pool, whose callers
// are late by as much as it takes, the first one gets through.
func TestCallersWithLessTimeThanAHandshakeTakesGetThrough(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		for name, o := range map[string]redis.Options{
			"plain": {}, "in a state of its own": {DB: 3, ClientName: "me"},
			"with a provider": {CredentialsProviderContext: func(context.Context) (string, string, error) { return "default", "secret", nil }},
		} {
			t.Run(fmt.Sprintf("RESP%d/%s", protocol, name), func(t *testing.T) {
				t.Parallel()
				server := testkit.Start(t, testkit.Redis, testkit.WithPassword("secret"))
				proxy := testkit.NewProxy(t, server.Addr)
				proxy.Delay(200 * time.Millisecond)
				o.Addr, o.Protocol = proxy.Addr(), protocol
				if o.CredentialsProviderContext == nil {
					o.Password = "secret"
				}
				rdb := redis.NewClient(patientDriver(t).Options(&o))
				t.Cleanup(func() { _ = rdb.Close() })
				late := 0
				for {
					ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
					err := rdb.Incr(ctx, "n").Err()
					cancel()
					if err == nil {
						break
					}
					if late++; late > 20 { // each of four steps, five times
						t.Fatalf("none of %d callers got through: %v", late, err)
					}
				}
				t.Logf("%d callers were late", late)
			})
		}
	}
}
