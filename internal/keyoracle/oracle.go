// Package keyoracle asks servers for the keys of requests: it is what all who find
// them without a server are tested against.
package keyoracle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
)

// Key is one key of a request, as the server tells it.
type Key struct {
	Name   string
	Index  int // its place among the arguments; -1 if none of them reads like it
	Access command.Access
}

// unknownAccess equals nobody's answer.
const unknownAccess command.Access = 99

// Keys asks for the keys of a request. That the server refuses it because it has
// none is an answer too.
func Keys(ctx context.Context, rdb *redis.Client, args ...any) ([]Key, error) {
	reply, err := rdb.Do(ctx, append([]any{"COMMAND", "GETKEYSANDFLAGS"}, args...)...).Slice()
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "no key arguments"),
		len(args) > 2 && fmt.Sprint(args[2]) == "0" && strings.Contains(err.Error(), "Invalid arguments"): // EVAL s 0
		return nil, nil
	default:
		return nil, err
	}
	var keys []Key
	from := 1
	for _, r := range reply {
		name := r.([]any)[0].(string)
		k := Key{Name: name, Index: -1, Access: access(args[0], fmt.Sprint(r.([]any)[1]))}
		if i := slices.IndexFunc(args[from:], func(a any) bool { return text(a) == name }); i >= 0 {
			k.Index = from + i
			from += i + 1
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func text(arg any) string {
	if b, ok := arg.([]byte); ok {
		return string(b)
	}
	return fmt.Sprint(arg)
}

func access(name any, flags string) command.Access {
	switch {
	case strings.EqualFold(text(name), "WATCH"): // says RO, but reads nothing
		return command.AccessNone
	case strings.Contains(flags, "RO"):
		return command.AccessRead
	case strings.Contains(flags, "RW"), strings.Contains(flags, "OW"), strings.Contains(flags, "RM"):
		return command.AccessWrite
	}
	return unknownAccess
}
