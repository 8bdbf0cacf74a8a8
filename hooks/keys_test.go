package hooks_test

import (
	"context"
	"errors"
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
	"github.com/everpool/everpool/internal/keyoracle"
	"github.com/everpool/everpool/internal/testkit"
)

func TestAppendKeysAgreesWithTheServers(t *testing.T) {
	for kind, knows := range map[testkit.Kind]func(*command.Info) bool{
		testkit.Redis:  func(i *command.Info) bool { return i.Redis },
		testkit.Valkey: func(i *command.Info) bool { return i.Valkey },
	} {
		t.Run(string(kind), func(t *testing.T) {
			o := newOracle(t, kind)
			requests, err := keyoracle.Requests(t.Context(), o.rdb, knows)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, r := range requests {
				o.agree(t, r.Args)
				names = append(names, r.Info.Name)
			}
			slices.Sort(names)
			names = slices.Compact(names)
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

func (o *oracle) keys(ctx context.Context, args []any) (keys []hooks.Key, err error) {
	said, err := keyoracle.Keys(ctx, o.rdb, args...)
	for _, k := range said {
		keys = append(keys, hooks.Key{Name: k.Name, Index: k.Index, Access: hooks.Access(k.Access)})
	}
	return keys, err
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
		if d := cmp.Diff(want, keysOf(cmd(typed...))); d != "" {
			t.Errorf("%v as %T: -server +AppendKeys\n%s", args, typed[len(typed)-1], d)
		}
	}
}

type marshaler string

func (m marshaler) MarshalBinary() ([]byte, error) { return []byte(m), nil }

func keysOf(c redis.Cmder) []hooks.Key { return hooks.AppendKeys(nil, c) }

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
	if testkit.Race {
		t.Skip("the race detector allocates")
	}
	dst := make([]hooks.Key, 0, 8)
	for _, c := range []redis.Cmder{cmd("get", "k"), cmd("mset", "a", 1, "b", 2), cmd("xread", "streams", "a", "0")} {
		if n := testing.AllocsPerRun(100, func() { dst = hooks.AppendKeys(dst[:0], c) }); n != 0 {
			t.Errorf("%v: %v allocations", c.Args(), n)
		}
	}
}
