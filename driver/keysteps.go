package driver

import (
	"context"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
)

// keySteps spares a cluster's client a look into the table of commands for each command: for
// one whose distance between keys isn't known go-redis asks its copy of the server's table,
// under a lock, and with a context of its own that has a timer, if ContextTimeoutEnabled is set.
//
// The table has other uses too. So the hook does nothing until go-redis has loaded it.
type keySteps struct{ loaded atomic.Bool }

func (k *keySteps) DialHook(next redis.DialHook) redis.DialHook { return next }

func (k *keySteps) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (k *keySteps) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !adjacent()[cmd.Name()] {
			return next(ctx, cmd)
		}
		if k.loaded.Load() {
			cmd.SetStepCount(1)
			return next(ctx, cmd)
		}
		unknown := stepCount(cmd) == 0 // another client may have run it before
		err := next(ctx, cmd)
		if unknown && stepCount(cmd) == 1 {
			k.loaded.Store(true)
		}
		return err
	}
}

// adjacent are the commands, in lower case, that have keys and no values between them.
var adjacent = sync.OnceValue(func() map[string]bool {
	names := make(map[string]bool)
	for c := range command.All() {
		if c.KeysAdjacent() {
			names[strings.ToLower(c.Name)] = true
		}
	}
	return names
})

// stepCount is what go-redis has noted in the command, which tells that it had the table: 0 if
// nothing, or in a go-redis that isn't known.
func stepCount(cmd redis.Cmder) int64 {
	v := reflect.Indirect(reflect.ValueOf(cmd))
	if v.Kind() != reflect.Struct {
		return 0
	}
	field, ok := v.Type().FieldByName("_stepCount")
	if !ok || field.Type.Kind() != reflect.Int8 {
		return 0
	}
	if v, err := v.FieldByIndexErr(field.Index); err == nil {
		return v.Int()
	}
	return 0
}
