// Package everpool is the page at which to begin; it exports nothing.
//
// everpool puts a connection pool that heals itself under an unmodified go-redis v9
// client. These two lines are all that a program changes:
//
//	d, err := driver.New(driver.Config{})
//	rdb := redis.NewClient(d.Options(&redis.Options{Addr: "localhost:6379"}))
//
// # Packages
//
//   - [github.com/everpool/everpool/driver] is what a program uses: options for clients,
//     clusters, sentinels and rings, one driver for many clients, health.
//   - [github.com/everpool/everpool/pooler] has the settings of a pool, its statistics and
//     events, and the errors to compare with. It knows nothing of go-redis.
//   - [github.com/everpool/everpool/hooks] is the hook that observers hang on; it works on
//     any go-redis client.
//   - [github.com/everpool/everpool/otelhooks] and [github.com/everpool/everpool/promhooks]
//     observe for OpenTelemetry and Prometheus, [github.com/everpool/everpool/hotkey] counts
//     hot keys.
//   - [github.com/everpool/everpool/debugpage] is a page for /debug/everpool that says what
//     is wrong.
//   - The command github.com/everpool/everpool/cmd/everpool looks at a server:
//     go run github.com/everpool/everpool/cmd/everpool doctor redis://localhost:6379
//
// # What to handle
//
// Two errors are new to a program that comes from go-redis's own pool.
//
//   - [github.com/everpool/everpool/pooler.ErrUnknownOutcome]: the command was sent, its reply
//     is lost, and running it again could do harm (INCR, LPUSH, EXEC, a script). It wasn't
//     run again. Read the state and decide.
//   - [github.com/everpool/everpool/pooler.ErrNodeDown]: the server is away for longer than
//     FailFastAfter, which is 5 s unless it is set. Until then calls wait for it, as long as
//     their contexts last. Nothing was sent.
//
// # Pages
//
// In the repository: docs/migration.md says how to come from go-redis's own pool, redigo,
// rueidis, redis-manager and Baseplate; docs/differences.md what is different for a program;
// docs/operations.md has the settings, sizing, alerts, managed services and every error
// text; docs/metrics.md every metric and span; docs/design.md says how it works;
// docs/benchmarks.md what was measured and how.
//
// The examples of this package are those of docs/migration.md.
package everpool
