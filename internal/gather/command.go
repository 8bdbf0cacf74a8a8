package gather

import (
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
)

// result is a set of types of results. A reply that isn't of its command's type would
// leave all replies behind it unread.
type result uint16

const (
	ofString result = 1 << iota
	ofStatus
	ofInt
	ofBool
	ofFloat
	ofDuration
	ofSlice
	ofStrings
	ofBools
	ofFloats
	ofMap
	ofScores
	ofAny // of Client.Do
)

// gathered are the commands that are run together, with the types of their results.
// Those whose reply may be long take as long as that is, so that it tells.
var gathered = map[string]result{
	"append": ofInt, "decr": ofInt, "decrby": ofInt, "del": ofInt,
	"exists": ofInt, "expire": ofBool, "expireat": ofBool, "get": ofString, "getbit": ofInt,
	"getdel": ofString, "getex": ofString, "getrange": ofString, "getset": ofString,
	"hdel": ofInt, "hexists": ofBool, "hget": ofString, "hgetall": ofMap, "hincrby": ofInt,
	"hincrbyfloat": ofFloat, "hkeys": ofStrings, "hlen": ofInt, "hmget": ofSlice,
	"hmset": ofBool, "hset": ofInt, "hsetnx": ofBool, "hvals": ofStrings, "incr": ofInt,
	"incrby": ofInt, "incrbyfloat": ofFloat, "lindex": ofString, "llen": ofInt,
	"lpop": ofString | ofStrings, "lpush": ofInt, "lpushx": ofInt, "lrange": ofStrings,
	"mget": ofSlice, "mset": ofStatus, "msetnx": ofBool, "persist": ofBool,
	"pexpire": ofBool, "pexpireat": ofBool, "pfadd": ofInt, "psetex": ofStatus,
	"pttl": ofDuration, "publish": ofInt, "rpop": ofString | ofStrings, "rpush": ofInt,
	"rpushx": ofInt, "sadd": ofInt, "scard": ofInt, "set": ofStatus | ofBool,
	"setbit": ofInt, "setex": ofStatus, "setnx": ofBool, "setrange": ofInt,
	"sismember": ofBool, "smembers": ofStrings, "smismember": ofBools, "srem": ofInt,
	"strlen": ofInt, "touch": ofInt, "ttl": ofDuration, "type": ofStatus, "unlink": ofInt,
	"xack": ofInt, "xadd": ofString, "xlen": ofInt, "zadd": ofInt, "zcard": ofInt,
	"zcount": ofInt, "zincrby": ofFloat, "zmscore": ofFloats, "zrange": ofStrings | ofScores,
	"zrangebyscore": ofStrings | ofScores, "zrank": ofInt, "zrem": ofInt,
	"zrevrange": ofStrings | ofScores, "zrevrank": ofInt, "zscore": ofFloat,
}

// resultOf is the type of the command's result, 0 if it is none of these. Types of the
// user's that have one of these in them aren't either.
func resultOf(cmd redis.Cmder) result {
	switch cmd.(type) {
	case *redis.StringCmd:
		return ofString
	case *redis.StatusCmd:
		return ofStatus
	case *redis.IntCmd:
		return ofInt
	case *redis.BoolCmd:
		return ofBool
	case *redis.FloatCmd:
		return ofFloat
	case *redis.DurationCmd:
		return ofDuration
	case *redis.SliceCmd:
		return ofSlice
	case *redis.StringSliceCmd:
		return ofStrings
	case *redis.BoolSliceCmd:
		return ofBools
	case *redis.FloatSliceCmd:
		return ofFloats
	case *redis.MapStringStringCmd:
		return ofMap
	case *redis.ZSliceCmd:
		return ofScores
	case *redis.Cmd:
		return ofAny
	}
	return 0
}

// take makes the result of a copy the command's own.
func take(cmd, from redis.Cmder) {
	switch from := from.(type) {
	case *redis.StringCmd:
		cmd.(*redis.StringCmd).SetVal(from.Val())
	case *redis.StatusCmd:
		cmd.(*redis.StatusCmd).SetVal(from.Val())
	case *redis.IntCmd:
		cmd.(*redis.IntCmd).SetVal(from.Val())
	case *redis.BoolCmd:
		cmd.(*redis.BoolCmd).SetVal(from.Val())
	case *redis.FloatCmd:
		cmd.(*redis.FloatCmd).SetVal(from.Val())
	case *redis.DurationCmd:
		cmd.(*redis.DurationCmd).SetVal(from.Val())
	case *redis.SliceCmd:
		cmd.(*redis.SliceCmd).SetVal(from.Val())
	case *redis.StringSliceCmd:
		cmd.(*redis.StringSliceCmd).SetVal(from.Val())
	case *redis.BoolSliceCmd:
		cmd.(*redis.BoolSliceCmd).SetVal(from.Val())
	case *redis.FloatSliceCmd:
		cmd.(*redis.FloatSliceCmd).SetVal(from.Val())
	case *redis.MapStringStringCmd:
		cmd.(*redis.MapStringStringCmd).SetVal(from.Val())
	case *redis.ZSliceCmd:
		cmd.(*redis.ZSliceCmd).SetVal(from.Val())
	case *redis.Cmd:
		cmd.(*redis.Cmd).SetVal(from.Val())
	}
	cmd.SetErr(from.Err())
}

// sizeOf is about how many bytes the reply had.
func sizeOf(cmd redis.Cmder) (n int) {
	switch cmd := cmd.(type) {
	case *redis.StringCmd:
		return len(cmd.Val())
	case *redis.StringSliceCmd:
		for _, s := range cmd.Val() {
			n += perItem + len(s)
		}
	case *redis.SliceCmd:
		return sizeOfAny(cmd.Val())
	case *redis.MapStringStringCmd:
		for k, v := range cmd.Val() {
			n += 2*perItem + len(k) + len(v)
		}
	case *redis.ZSliceCmd:
		for _, z := range cmd.Val() {
			n += 2*perItem + sizeOfAny(z.Member)
		}
	case *redis.Cmd:
		return sizeOfAny(cmd.Val())
	}
	return n
}

// perItem is about what an item takes besides its bytes.
const perItem = 8

func sizeOfAny(v any) (n int) {
	switch v := v.(type) {
	case string:
		return perItem + len(v)
	case []any:
		for _, item := range v {
			n += sizeOfAny(item)
		}
		return n
	case map[any]any:
		for k, item := range v {
			n += sizeOfAny(k) + sizeOfAny(item)
		}
		return n
	}
	return perItem
}

// Bounds of what is written for one command, for which others wait.
const (
	maxArgs     = 64
	maxArgBytes = 4 << 10
)

// ruleFor returns what is known of the command, and its first key; or why it goes straight
// on. mayLeave says that its caller may leave it, and use what its arguments point to for
// something else.
func ruleFor(cmd redis.Cmder, mayLeave bool) (r *rule, key string, why Reason) {
	of, args := resultOf(cmd), cmd.Args()
	r = rules[cmd.Name()]
	switch {
	case r == nil:
		return nil, "", OtherCommand
	case of&(r.of|ofAny) == 0:
		return nil, "", OtherResult
	case len(args) > maxArgs:
		return nil, "", Large
	}
	size := 0
	for _, arg := range args {
		switch arg := arg.(type) {
		case string:
			size += len(arg)
		case []byte:
			if mayLeave {
				return nil, "", OtherArgument
			}
			size += len(arg)
		case nil, bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64,
			float32, float64, time.Time, time.Duration:
		default:
			return nil, "", OtherArgument // it may run code of the user's
		}
	}
	if size > maxArgBytes {
		return nil, "", Large
	}
	if len(args) > 1 {
		key, _ = args[1].(string)
	}
	return r, key, Gathered
}

// rule is what is known of a command that is gathered.
type rule struct {
	of      result
	effects [6]command.Effect // by the number of arguments, from one on
	sure    [6]bool           // whether that is true whatever the arguments are
}

// rules are those of all commands that are gathered.
var rules = func() map[string]*rule {
	all := make(map[string]*rule, len(gathered))
	for name, of := range gathered {
		r := &rule{of: of}
		for i := range r.effects {
			f := command.Inspect([]byte(name), []resp.Span{{End: int32(len(name))}}, i+1)
			r.effects[i], r.sure[i] = f.Effect, f.Fixed
		}
		all[name] = r
	}
	return all
}()

// effect says what running the command twice would do.
func (r *rule) effect(args []any) command.Effect {
	if i := min(len(args), len(r.effects)) - 1; r.sure[i] {
		return r.effects[i]
	}
	buf, spans := make([]byte, 0, 256), make([]resp.Span, 0, 8)
	for i := range min(len(args), cap(spans)) {
		start := int32(len(buf))
		buf = append(buf, word(args[i])...)
		spans = append(spans, resp.Span{Start: start, End: int32(len(buf))})
	}
	return command.Inspect(buf, spans, len(args)).Effect
}

// word is the argument as far as it may be an option, a number or a path. Anything else
// is a word that is none of these.
func word(arg any) string {
	const none = "..?"
	switch arg := arg.(type) {
	case string:
		if len(arg) <= 32 {
			return arg
		}
	case []byte:
		if len(arg) <= 32 {
			return string(arg)
		}
	case int, int64, float64:
		return "0"
	}
	return none
}
