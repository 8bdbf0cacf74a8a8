package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/testkit"
)

// odd are requests whose keys the shape of the command alone doesn't give.
var odd = []string{
	"SET k v GET", "SET k v EX 10 get", "BITFIELD k GET u8 0", "BITFIELD k get u8 0 GET u8 8", "BITFIELD k SET u8 0 1",
	"BITFIELD k GET u8 0 INCRBY u8 0 1", "BITFIELD k OVERFLOW SAT GET u8 0", "SORT k",
	"SORT k BY w_* LIMIT 0 5 GET # DESC", "SORT k STORE d", "sort k by store store d",
	"SORT k GET store LIMIT 0 store STORE d", "SORT k STORE d STORE e", "MIGRATE h 1 k 0 10",
	"MIGRATE h 1 k 0 10 AUTH p", `MIGRATE h 1 "" 0 10 KEYS a b c`, `MIGRATE h 1 "" 0 10 COPY AUTH2 u p keys a b`,
	"GEORADIUS k 1 2 3 km COUNT 1 storedist d", "GEORADIUSBYMEMBER k store 3 km ASC STOREDIST d",
	"XREAD STREAMS a b 0 0", "XREAD COUNT 1 BLOCK 0 streams a 0", "XREADGROUP GROUP streams c STREAMS a b c > > >",
	"XREADGROUP GROUP g streams COUNT 1 NOACK STREAMS a >", "EVAL s 2 a b c", "EVAL s 0", "EVALSHA_RO s 0 x",
	"FCALL_RO f 2 a b", "ZUNIONSTORE d 2 a b WEIGHTS 1 2", "LMPOP 2 a b LEFT", "BLMPOP 0 2 a b LEFT", "BZMPOP 0 1 a MIN",
	"MSET a 1 b 2", "BLPOP a b c 0", "BITOP AND d a b", "LCS a b LEN", "WATCH a b", "OBJECT ENCODING k",
	"MEMORY USAGE k SAMPLES 5", "XGROUP CREATE s g 0 MKSTREAM", "XINFO STREAM s FULL", "COPY a b REPLACE", "PFDEBUG GETREG k",
}

func TestAppendKeysAgreesWithTheServers(t *testing.T) {
	for kind, knows := range map[testkit.Kind]func(*command.Info) bool{
		testkit.Redis:  func(i *command.Info) bool { return i.Redis },
		testkit.Valkey: func(i *command.Info) bool { return i.Valkey },
	} {
		t.Run(string(kind), func(t *testing.T) {
			o := newOracle(t, kind)
			var names []string
			for info := range command.All() {
				if !knows(info) || len(info.Keys) == 0 || info.Container {
					continue
				}
				all := samples(info, o.arity(t, info.Name))
				if len(all) == 0 {
					t.Errorf("%s: no sample", info.Name)
				}
				for _, args := range all {
					o.agree(t, args)
				}
				names = append(names, info.Name)
			}
			for _, line := range odd {
				args := strings.Fields(line)
				if i := slices.Index(args, `""`); i >= 0 {
					args[i] = ""
				}
				o.agree(t, args)
			}
			if len(names) < 180 || o.asked < 800 {
				t.Errorf("%d commands, %d requests only", len(names), o.asked)
			}
			t.Logf("%d commands, %d requests: %s", len(names), o.asked, strings.Join(names, ", "))
		})
	}
}

// oracle is a server that is asked for the keys of requests.
type oracle struct {
	rdb   *redis.Client
	asked int
}

func newOracle(t *testing.T, kind testkit.Kind) *oracle {
	s := testkit.Start(t, kind)
	return &oracle{rdb: client(t, &redis.Options{Addr: s.Addr, Protocol: 2, DisableIdentity: true})}
}

// agree compares the keys of the arguments in several types.
func (o *oracle) agree(t *testing.T, args []string) {
	t.Helper()
	plain := make([]any, len(args))
	for i, a := range args {
		plain[i] = a
	}
	want, err := o.keys(t.Context(), plain)
	if err != nil {
		t.Errorf("%v: %v", args, err)
	}
	o.asked++
	for _, how := range []func(string) any{
		func(s string) any { return s },
		func(s string) any { return []byte(s) },
		func(s string) any { return &s },
		func(s string) any { return marshaler(s) },
	} {
		typed := make([]any, len(args))
		for i, a := range args {
			if typed[i] = how(a); i < 2 {
				typed[i] = a // the name
			}
			if n, err := strconv.Atoi(a); err == nil {
				typed[i] = []any{n, int8(n), &n, uint16(n), float64(n), time.Duration(n)}[o.asked%6]
			}
		}
		if d := cmp.Diff(want, keysOf(cmd(typed...)), cmpopts.IgnoreFields(hooks.Key{}, "Index")); d != "" {
			t.Errorf("%v as %T: -server +AppendKeys\n%s", args, typed[len(typed)-1], d)
		}
		for _, k := range keysOf(cmd(typed...)) {
			if args[k.Index] != k.Name {
				t.Errorf("%v: key %+v", args, k)
			}
		}
	}
}

type marshaler string

func (m marshaler) MarshalBinary() ([]byte, error) { return []byte(m), nil }

func keysOf(c redis.Cmder) []hooks.Key { return hooks.AppendKeys(nil, c) }

// keys asks the server. That it refuses a request because it has no keys is an
// answer too.
func (o *oracle) keys(ctx context.Context, args []any) (keys []hooks.Key, err error) {
	reply, err := o.rdb.Do(ctx, append([]any{"COMMAND", "GETKEYSANDFLAGS"}, args...)...).Slice()
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "no key arguments"),
		len(args) > 2 && fmt.Sprint(args[2]) == "0" && strings.Contains(err.Error(), "Invalid arguments"): // EVAL s 0
		return nil, nil
	default:
		return nil, err
	}
	for _, r := range reply {
		k := r.([]any)
		keys = append(keys, hooks.Key{Name: k[0].(string), Access: access(args[0].(string), fmt.Sprint(k[1]))})
	}
	return keys, nil
}

func access(name, flags string) hooks.Access {
	switch {
	case strings.EqualFold(name, "WATCH"): // says RO, but reads nothing
		return hooks.AccessNone
	case strings.Contains(flags, "RO"):
		return hooks.AccessRead
	case strings.Contains(flags, "RW"), strings.Contains(flags, "OW"), strings.Contains(flags, "RM"):
		return hooks.AccessWrite
	}
	return 99
}

// arity is the server's own; the table has the newer one's.
func (o *oracle) arity(t *testing.T, name string) int {
	reply, err := o.rdb.Do(t.Context(), "COMMAND", "INFO", strings.ReplaceAll(name, " ", "|")).Slice()
	if err != nil || len(reply) != 1 || reply[0] == nil {
		t.Fatalf("%s: %v %v", name, reply, err)
	}
	return int(reply[0].([]any)[1].(int64))
}

// samples makes requests of several lengths that satisfy arity and key specs.
func samples(info *command.Info, arity int) (all [][]string) {
	least, most := arity, arity
	if least < 0 {
		least, most = -least, -least+7
	}
	for n := max(2, least); n <= most; n++ {
		args := strings.Fields(info.Name)
		for i := len(args); i < n; i++ {
			args = append(args, "arg"+strconv.Itoa(i))
		}
		if fill(info, args) {
			all = append(all, args)
		}
	}
	return all
}

// fill puts in the words and numbers that decide where keys are.
func fill(info *command.Info, args []string) bool {
	n := len(args)
	for _, k := range info.Keys {
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

// caught calls every method of Cmdable with made up arguments and returns the
// commands that go-redis makes of them.
func caught(t *testing.T) (all []redis.Cmder) {
	rdb := client(t, &redis.Options{})
	rdb.AddHook(hooks.Adapter{
		Process: func(redis.ProcessHook) redis.ProcessHook {
			return func(_ context.Context, c redis.Cmder) error {
				all = append(all, c)
				return errors.New("caught")
			}
		},
		Pipeline: func(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
			return answers(errors.New("caught"))
		},
	})
	v := reflect.ValueOf(rdb)
	cmdable := reflect.TypeFor[redis.Cmdable]()
	for method := range cmdable.Methods() {
		m := v.MethodByName(method.Name)
		if m.Type().NumIn() == 0 || m.Type().In(0) != reflect.TypeFor[context.Context]() {
			continue
		}
		func() {
			defer func() { _ = recover() }() // it didn't like the arguments
			m.Call(arguments(m.Type()))
		}()
	}
	return all
}

func arguments(f reflect.Type) (in []reflect.Value) {
	n := 0
	var value func(reflect.Type) reflect.Value
	value = func(of reflect.Type) reflect.Value {
		n++
		word := "arg" + strconv.Itoa(n)
		switch {
		case of == reflect.TypeFor[context.Context]():
			return reflect.ValueOf(context.Background())
		case of == reflect.TypeFor[any]():
			return reflect.ValueOf(word)
		case of == reflect.TypeFor[time.Duration]():
			return reflect.ValueOf(time.Duration(n) * time.Second)
		}
		v := reflect.New(of).Elem()
		switch of.Kind() {
		case reflect.String:
			v.SetString(word)
		case reflect.Int, reflect.Int64:
			v.SetInt(int64(n))
		case reflect.Uint64:
			v.SetUint(uint64(n))
		case reflect.Float64:
			v.SetFloat(float64(n))
		case reflect.Pointer:
			v.Set(reflect.New(of.Elem()))
			if of.Elem().Kind() == reflect.Struct {
				v.Elem().Set(value(of.Elem()))
			}
		case reflect.Slice:
			v.Set(reflect.Append(v, value(of.Elem()), value(of.Elem())))
		case reflect.Struct:
			for _, field := range v.Fields() {
				if k := field.Kind(); field.CanSet() && (k == reflect.String || k == reflect.Slice) {
					field.Set(value(field.Type()))
				}
			}
		}
		return v
	}
	for i := range f.NumIn() {
		if f.IsVariadic() && i == f.NumIn()-1 {
			in = append(in, value(f.In(i).Elem()), value(f.In(i).Elem()))
			break
		}
		in = append(in, value(f.In(i)))
	}
	return in
}

func TestAppendKeysAgreesWithTheServersOnWhatGoRedisSends(t *testing.T) {
	all := caught(t)
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			o := newOracle(t, kind)
			agreed := map[string]bool{}
			refused := map[string]string{}
			for _, c := range all {
				name := hooks.CommandOf(c).Name
				want, err := o.keys(t.Context(), c.Args())
				if err != nil {
					refused[name] = err.Error() // not known, or our arguments make no sense
					continue
				}
				agreed[name] = true
				if d := cmp.Diff(want, keysOf(c), cmpopts.IgnoreFields(hooks.Key{}, "Index")); d != "" {
					t.Errorf("%v: -server +AppendKeys\n%s", c.Args(), d)
				}
			}
			for name := range agreed {
				delete(refused, name)
			}
			for name, err := range refused {
				if !strings.Contains(err, "Invalid command specified") && !strings.Contains(err, "'command|getkeysandflags'") {
					t.Errorf("%s: %s", name, err)
				}
			}
			if len(agreed) < 200 {
				t.Errorf("%d commands only", len(agreed))
			}
			t.Logf("%d of %d calls' commands agreed, the server doesn't know %d", len(agreed), len(all), len(refused))
		})
	}
}

func TestAppendKeysOfOddArguments(t *testing.T) {
	n, f, yes, s := 7, 1.5, true, "pointed"
	at := time.Date(2024, 2, 29, 12, 0, 0, 5, time.UTC)
	for _, c := range []struct {
		key  any
		want string
	}{
		{"plain", "plain"},
		{[]byte("bytes"), "bytes"},
		{&s, "pointed"},
		{(*string)(nil), ""},
		{nil, ""},
		{7, "7"},
		{int8(-7), "-7"},
		{&n, "7"},
		{(*int)(nil), "0"},
		{uint64(1 << 63), "9223372036854775808"},
		{1.5, "1.5"},
		{float32(2.5), "2.5"},
		{&f, "1.5"},
		{(*float64)(nil), "0"},
		{true, "1"},
		{false, "0"},
		{&yes, "1"},
		{(*bool)(nil), "0"},
		{time.Second, "1000000000"},
		{at, "2024-02-29T12:00:00.000000005Z"},
		{&at, "2024-02-29T12:00:00.000000005Z"},
		{(*time.Time)(nil), "0001-01-01T00:00:00Z"},
		{marshaler("made"), "made"},
		{net.IPv4(1, 2, 3, 4).To4(), "\x01\x02\x03\x04"},
		{struct{ A int }{1}, ""},
		{failing{}, ""},
		{new(any), ""},
	} {
		keys := keysOf(cmd("get", c.key))
		if want := []hooks.Key{{Name: c.want, Index: 1, Access: hooks.AccessRead}}; !slices.Equal(keys, want) {
			t.Errorf("%T %v: %+v, want %+v", c.key, c.key, keys, want)
		}
	}
	for _, args := range [][]any{
		{}, {nil}, {"get"}, {"unknown", "k"}, {5, "k"}, {"eval", "s", "x", "a"}, {"eval", "s", -1, "a"}, {"eval", "s", 9, "a"}, {"client", "list"},
	} {
		if keys := keysOf(cmd(args...)); keys != nil {
			t.Errorf("%v: %+v", args, keys)
		}
	}
}

type failing struct{}

func (failing) MarshalBinary() ([]byte, error) { return []byte("half"), errors.New("no") }

func TestAppendKeysCopiesBytesAndAppends(t *testing.T) {
	name := []byte("before")
	keys := hooks.AppendKeys([]hooks.Key{{Name: "kept"}}, cmd("del", name, "b"))
	copy(name, "after!")
	want := []hooks.Key{{Name: "kept"}, {Name: "before", Index: 1, Access: hooks.AccessWrite}, {Name: "b", Index: 2, Access: hooks.AccessWrite}}
	if d := cmp.Diff(want, keys); d != "" {
		t.Error(d)
	}
}

func TestAppendKeysOfStringsDoesNotAllocateIntoARoomySlice(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	dst := make([]hooks.Key, 0, 8)
	for _, c := range []redis.Cmder{cmd("get", "k"), cmd("mset", "a", 1, "b", 2), cmd("xread", "streams", "a", "0")} {
		if n := testing.AllocsPerRun(100, func() { dst = hooks.AppendKeys(dst[:0], c) }); n != 0 {
			t.Errorf("%v: %v allocations", c.Args(), n)
		}
	}
}
