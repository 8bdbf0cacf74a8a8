package gather

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
)

// retries is how often go-redis tries again, and how long it pauses.
type retries struct {
	most     int
	min, max time.Duration
}

// doPipeline is what the client's chain calls for a pipeline of the user's. If the server
// refuses the first command for now (LOADING, say) go-redis runs all of it again, with
// what has run. Where that would do harm, those alone are run again that were refused.
func (c *chain) doPipeline(ctx context.Context, cmds []redis.Cmder) error {
	at := slices.IndexFunc(cmds, isUnsafe)
	if at < 0 || c.retries.most <= 0 || !c.on() {
		return c.pipeline(ctx, cmds)
	}
	rest := cmds
	for attempt := 1; ; attempt++ {
		list := slices.Clone(rest)
		list[at] = once{rest[at]}
		err := c.pipeline(ctx, list)
		refusal, refused := errors.AsType[redis.Error](err)
		switch {
		case refused && firstError(cmds) == nil && (attempt > c.retries.most || !triesAgain(err)):
			stamp(cmds, err) // go-redis doesn't where the connection was refused
			return err
		case err == nil, refused && !isPassing(refusal.Error()), refused && hasRun(rest):
			return firstError(cmds)
		case attempt > c.retries.most, !triesAgain(err):
			return err
		}
		if refused && rest[0].Err() != nil {
			rest = slices.DeleteFunc(slices.Clone(rest), func(cmd redis.Cmder) bool { return !wasRefused(cmd) })
			if at = slices.IndexFunc(rest, isUnsafe); at < 0 {
				at = 0
			}
		}
		if pause(ctx, c.retries.backoff(attempt)) != nil {
			return err
		}
	}
}

// hasRun reports whether the first command has run, where a later one has failed. Without
// any error but the pipeline's own, no connection was made.
func hasRun(cmds []redis.Cmder) bool { return cmds[0].Err() == nil && firstError(cmds) != nil }

// isUnsafe reports whether running the command twice would do harm, of those that are
// gathered; a pipeline of others alone is left to go-redis.
func isUnsafe(cmd redis.Cmder) bool {
	r := rules[cmd.Name()]
	return r != nil && kindOf(cmd) != nil && r.effect(cmd.Args()) == command.Unsafe
}

// wasRefused reports whether the server has not run the command, and may do so soon.
func wasRefused(cmd redis.Cmder) bool {
	refusal, ok := errors.AsType[redis.Error](cmd.Err())
	return ok && isPassing(refusal.Error())
}

// firstError is the first error of the commands.
func firstError(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}

// backoff is how long to pause after so many tries, about as long as go-redis.
func (r retries) backoff(tries int) time.Duration {
	d := min(r.min<<min(tries, 16), r.max)
	return d/2 + rand.N(d/2+1)
}

// pause fails if the context ends before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
