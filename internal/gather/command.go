package gather

import (
	"slices"
	"strings"
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

// kind is what is done with results of one type.
type kind struct {
	of   result
	take func(cmd, from redis.Cmder)
	size func(cmd redis.Cmder) int // about how many bytes the reply had
}

// with is a command whose result is a V.
type with[V any] interface {
	redis.Cmder
	Val() V
	SetVal(V)
}

func kindFor[C with[V], V any](of result, size func(V) int) *kind {
	return &kind{
		of:   of,
		take: func(cmd, from redis.Cmder) { cmd.(C).SetVal(from.(C).Val()) },
		size: func(cmd redis.Cmder) int { return size(cmd.(C).Val()) },
	}
}

var (
	kindString   = kindFor[*redis.StringCmd](ofString, func(s string) int { return len(s) })
	kindStatus   = kindFor[*redis.StatusCmd](ofStatus, small[string])
	kindInt      = kindFor[*redis.IntCmd](ofInt, small[int64])
	kindBool     = kindFor[*redis.BoolCmd](ofBool, small[bool])
	kindFloat    = kindFor[*redis.FloatCmd](ofFloat, small[float64])
	kindDuration = kindFor[*redis.DurationCmd](ofDuration, small[time.Duration])
	kindSlice    = kindFor[*redis.SliceCmd](ofSlice, func(all []any) int { return sizeOfAny(all) })
	kindStrings  = kindFor[*redis.StringSliceCmd](ofStrings, sizeOfStrings)
	kindBools    = kindFor[*redis.BoolSliceCmd](ofBools, small[[]bool])
	kindFloats   = kindFor[*redis.FloatSliceCmd](ofFloats, small[[]float64])
	kindMap      = kindFor[*redis.MapStringStringCmd](ofMap, sizeOfMap)
	kindScores   = kindFor[*redis.ZSliceCmd](ofScores, sizeOfScores)
	kindAny      = kindFor[*redis.Cmd](ofAny, sizeOfAny)
)

// kindOf is that of the command's result, nil if it is none of these. Types of the user's
// that have one of these in them aren't either.
func kindOf(cmd redis.Cmder) *kind {
	switch cmd.(type) {
	case *redis.StringCmd:
		return kindString
	case *redis.StatusCmd:
		return kindStatus
	case *redis.IntCmd:
		return kindInt
	case *redis.BoolCmd:
		return kindBool
	case *redis.FloatCmd:
		return kindFloat
	case *redis.DurationCmd:
		return kindDuration
	case *redis.SliceCmd:
		return kindSlice
	case *redis.StringSliceCmd:
		return kindStrings
	case *redis.BoolSliceCmd:
		return kindBools
	case *redis.FloatSliceCmd:
		return kindFloats
	case *redis.MapStringStringCmd:
		return kindMap
	case *redis.ZSliceCmd:
		return kindScores
	case *redis.Cmd:
		return kindAny
	}
	return nil
}

func small[V any](V) int { return 0 }

func sizeOfStrings(all []string) (n int) {
	for _, s := range all {
		n += perItem + len(s)
	}
	return n
}

func sizeOfMap(all map[string]string) (n int) {
	for k, v := range all {
		n += 2*perItem + len(k) + len(v)
	}
	return n
}

func sizeOfScores(all []redis.Z) (n int) {
	for _, z := range all {
		n += 2*perItem + sizeOfAny(z.Member)
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
	k, args := kindOf(cmd), cmd.Args()
	r = rules[cmd.Name()]
	switch {
	case r == nil:
		return nil, "", OtherCommand
	case k == nil || k.of&(resultOf(cmd, r)|ofAny) == 0:
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

// resultOf is the type of the result that the command's reply has with its arguments. Where
// the caller expects another one, a part of the reply is left unread, or more than it.
func resultOf(cmd redis.Cmder, r *rule) result {
	args := cmd.Args()
	switch cmd.Name() {
	case "lpop", "rpop":
		if len(args) > 2 { // a count
			return ofStrings
		}
		return ofString
	case "zrange", "zrangebyscore", "zrevrange":
		if slices.ContainsFunc(args, isWithScores) {
			return ofScores
		}
		return ofStrings
	case "zrank", "zrevrank":
		if len(args) > 3 { // WITHSCORE
			return 0
		}
	}
	return r.of
}

func isWithScores(arg any) bool { return strings.EqualFold(word(arg), "withscores") }

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
