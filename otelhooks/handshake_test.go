package otelhooks_test

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// TestAHandshakeIsNoSpan is why users leave redisotel: it makes spans that failed
// of what go-redis asks of a new connection.
func TestAHandshakeIsNoSpan(tt *testing.T) {
	const user, password = "somebody", "handshake-secret"
	servers := map[string]func(*testing.T) string{
		"miniredis": func(t *testing.T) string {
			s := miniredis.RunT(t)
			s.RequireUserAuth(user, password)
			return s.Addr()
		},
		"miniredis open": func(t *testing.T) string { return miniredis.RunT(t).Addr() },
		"redis": func(t *testing.T) string {
			return testkit.Start(t, testkit.Redis, testkit.WithUser(user, password, "allkeys allcommands")).Addr
		},
		"valkey": func(t *testing.T) string {
			return testkit.Start(t, testkit.Valkey, testkit.WithUser(user, password, "allkeys allcommands")).Addr
		},
	}
	for name, start := range servers {
		tt.Run(name, func(tt *testing.T) {
			addr := start(tt)
			options := map[string]redis.Options{
				"db":    {DB: 1},
				"resp2": {Protocol: 2},
				"resp3": {Protocol: 3, ClientName: "somebody"},
			}
			for option, o := range options {
				tt.Run(option, func(tt *testing.T) {
					t := newTester(tt)
					o.Addr = addr
					if name != "miniredis open" {
						o.Username, o.Password = user, password
					}
					c := redis.NewClient(&o)
					defer c.Close()
					t.attach(c, t.tracing(), t.metrics())
					t.must(c.Set(t.ctx, "k", "v", 0).Err())
					pipe := c.Pipeline() // has connections of its own
					pipe.Get(t.ctx, "k")
					pipe.Get(t.ctx, "k")
					_, err := pipe.Exec(t.ctx)
					t.must(err)
					spans := t.take()
					t.want("spans", names(spans), []string{"SET", "PIPELINE GET"})
					db := "0"
					if o.DB == 1 {
						db = "1"
					}
					for _, s := range spans {
						t.want("status", s.Status.Description, "")
						t.want("namespace", attrsOf(s.Attributes)["db.namespace"], any(db))
					}
					_, counts := t.durations()
					t.want("metrics", counts, []uint64{1, 1})
				})
			}
		})
	}
}
