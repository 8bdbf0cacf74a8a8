package keyoracle

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
)

// Request is one to ask about.
type Request struct {
	Info *command.Info
	Args []string
}

// odd are requests whose keys the shape of the command alone doesn't give. "" is an
// empty argument.
var odd = []string{
	"SET k v", "SET k v GET", "SET k v EX 10 get", "SET k v NX",
	"BITFIELD k GET u8 0", "BITFIELD k get u8 0 GET u8 8", "BITFIELD k SET u8 0 1",
	"BITFIELD k GET u8 0 INCRBY u8 0 1", "BITFIELD k OVERFLOW SAT GET u8 0",
	"BITFIELD k OVERFLOW SAT INCRBY u8 0 1", "BITFIELD k",
	"SORT k", "SORT k BY w_* LIMIT 0 5 GET # DESC", "SORT k STORE d", "sort k by store store d",
	"SORT k GET store LIMIT 0 store STORE d", "SORT k STORE d STORE e", "SORT_RO k BY w_*",
	"MIGRATE h 1 k 0 10", "MIGRATE h 1 k 0 10 COPY REPLACE", "MIGRATE h 1 k 0 10 AUTH p",
	`MIGRATE h 1 "" 0 10 KEYS a b c`, `MIGRATE h 1 "" 0 10 COPY AUTH2 u p keys a b`,
	"GEORADIUS k 1 2 3 km", "GEORADIUS k 1 2 3 km STORE d", "GEORADIUS k 1 2 3 km COUNT 1 storedist d",
	"GEORADIUSBYMEMBER k m 3 km", "GEORADIUSBYMEMBER k m 3 km STORE d",
	"GEORADIUSBYMEMBER k store 3 km ASC STOREDIST d", "GEORADIUS_RO k 1 2 3 km", "GEORADIUSBYMEMBER_RO k m 3 km",
	"XREAD STREAMS a b 0 0", "XREAD COUNT 1 BLOCK 0 streams a 0",
	"XREADGROUP GROUP streams c STREAMS a b c > > >", "XREADGROUP GROUP g streams COUNT 1 NOACK STREAMS a >",
	"EVAL s 2 a b c", "EVAL s 0", "EVALSHA s 1 a", "EVAL_RO s 1 a x", "EVALSHA_RO s 0 x",
	"FCALL f 1 a b", "FCALL_RO f 2 a b", "EVAL s 0 a",
	"ZUNIONSTORE d 2 a b WEIGHTS 1 2", "ZDIFF 1 a WITHSCORES", "LMPOP 2 a b LEFT", "BLMPOP 0 2 a b LEFT",
	"BZMPOP 0 1 a MIN", "SINTERCARD 2 a b LIMIT 1", "MSET a 1 b 2", "MSETNX a 1 b 2 c 3",
	"BLPOP a b c 0", "BITOP AND d a b", "LCS a b LEN", "WATCH a b", "OBJECT ENCODING k", "MEMORY USAGE k SAMPLES 5",
	"XGROUP CREATE s g 0 MKSTREAM", "XINFO STREAM s FULL", "RENAME a b", "COPY a b REPLACE",
	"PFCOUNT a b", "PFDEBUG GETREG k", "DEL a b c", "DEL a a", "RESTORE-ASKING k 0 v",
}

// Odd returns requests whose keys the shape of the command alone doesn't give.
func Odd() (all []Request) {
	for _, line := range odd {
		args := Args(line)
		all = append(all, Request{command.Lookup([]byte(args[0]), []byte(args[1])), args})
	}
	return all
}

// Args splits a line into arguments at its spaces; "" is an empty one.
func Args(line string) []string {
	args := strings.Fields(line)
	for i := range args {
		if args[i] == `""` {
			args[i] = ""
		}
	}
	return args
}

// Requests returns requests of several lengths for each command that has keys and
// that the server knows, and then the odd ones.
func Requests(ctx context.Context, rdb *redis.Client, knows func(*command.Info) bool) (all []Request, err error) {
	for info := range command.All() {
		if !knows(info) || len(info.Keys) == 0 || info.Container {
			continue
		}
		n, err := arity(ctx, rdb, info.Name)
		if err != nil {
			return nil, err
		}
		of := samples(info, n)
		if len(of) == 0 {
			return nil, fmt.Errorf("no request of %s comes to mind", info.Name)
		}
		all = append(all, of...)
	}
	return append(all, Odd()...), nil
}

// arity is the server's own; the table has the newer one's.
func arity(ctx context.Context, rdb *redis.Client, name string) (int, error) {
	reply, err := rdb.Do(ctx, "COMMAND", "INFO", strings.ReplaceAll(name, " ", "|")).Slice()
	if err != nil {
		return 0, fmt.Errorf("COMMAND INFO %s: %w", name, err)
	}
	if len(reply) != 1 || reply[0] == nil {
		return 0, fmt.Errorf("COMMAND INFO %s: %v", name, reply)
	}
	return int(reply[0].([]any)[1].(int64)), nil
}

// samples are requests that satisfy arity and key specs.
func samples(info *command.Info, arity int) (all []Request) {
	least, most := arity, arity
	if arity < 0 {
		least, most = -arity, -arity+7
	}
	for n := max(2, least); n <= most; n++ {
		args := strings.Fields(info.Name)
		for i := len(args); i < n; i++ {
			args = append(args, "arg"+strconv.Itoa(i))
		}
		if suit(args, info.Keys) {
			all = append(all, Request{info, args})
		}
	}
	return all
}

// suit puts in the words and numbers that decide where keys are. It reports whether
// there is room for a key.
func suit(args []string, specs []command.KeySpec) bool {
	n := len(args)
	for _, k := range specs {
		at := int(k.At)
		switch {
		case k.Begin == command.BeginIndex && at >= n:
			return false
		case k.Begin == command.BeginKeyword && k.Keyword == "STREAMS":
			if (n-at-1)%2 != 0 || n-at-1 == 0 {
				return false // a key without an id
			}
			args[at] = k.Keyword
		case k.Find == command.FindKeynum:
			num := min(2, n-at-int(k.NumAt)-1)
			if num < 1 {
				return false
			}
			args[at+int(k.NumAt)] = strconv.Itoa(num)
		case k.Find == command.FindRange && k.Step > 1 && (n-at)%int(k.Step) != 0:
			return false
		}
	}
	return true
}
