package driver_test

import (
	"context"
	"crypto/tls"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/redis/go-redis/v9/push"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// optionsTable returns what the documentation of Options says that becomes of each
// field: the beginning of the paragraph that its row stands under.
func optionsTable(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "options.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	table := make(map[string]string)
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != "Options" {
			continue
		}
		paragraph := ""
		for block := range strings.SplitSeq(f.Doc.Text(), "\n\n") {
			if !strings.HasPrefix(block, "\t") {
				paragraph = block
				continue
			}
			for row := range strings.SplitSeq(block, "\n") {
				names, _, _ := strings.Cut(strings.TrimSpace(row), "  ")
				for name := range strings.SplitSeq(names, ", ") {
					if table[name] != "" {
						t.Errorf("%s is in two rows", name)
					}
					table[name] = paragraph
				}
			}
		}
	}
	return table
}

type (
	streaming struct {
		auth.StreamingCredentialsProvider
	}
	limiter struct{ redis.Limiter }
)

// aValue is a value for the field that can work.
func aValue(f reflect.StructField) reflect.Value {
	of := func(v any) reflect.Value { return reflect.ValueOf(v) }
	switch f.Name {
	case "Network":
		return of("tcp4")
	case "Addr":
		return of("10.0.0.7:6380")
	case "TLSConfig":
		return of(&tls.Config{ServerName: "name"}) //nolint:gosec // isn't used
	case "StreamingCredentialsProvider":
		return of(streaming{})
	case "Limiter":
		return of(limiter{})
	case "PushNotificationProcessor":
		return of(push.NewProcessor())
	case "ClientSideCache":
		return of(redis.NewLocalCache(redis.ClientSideCacheConfig{}))
	case "MaintNotificationsConfig":
		return of(&maintnotifications.Config{Mode: maintnotifications.ModeAuto})
	}
	switch v := reflect.New(f.Type).Elem(); v.Kind() {
	case reflect.Bool:
		return of(true)
	case reflect.String:
		return of("text").Convert(f.Type)
	case reflect.Pointer:
		return reflect.New(f.Type.Elem())
	case reflect.Func:
		return reflect.MakeFunc(f.Type, func([]reflect.Value) []reflect.Value { panic("called") })
	default:
		if f.Type == reflect.TypeFor[time.Duration]() {
			return of(time.Minute)
		}
		return of(7).Convert(f.Type)
	}
}

// given are the options that d makes of those with only the field set, and the
// configuration of a pool that they make.
func given(t *testing.T, f reflect.StructField, v reflect.Value) (reflect.Value, pooler.Config) {
	t.Helper()
	var pool pooler.Config
	d := newDriver(t, driver.Config{NewPooler: func(node pooler.Node, cfg pooler.Config) (pooler.Pooler, error) {
		pool = cfg.Limits()
		pool.OnEvent, pool.OnWait = nil, nil // the driver's own
		node.Dial = func(context.Context, string, string) (net.Conn, error) {
			nc, server := net.Pipe()
			t.Cleanup(func() { _ = server.Close() })
			return nc, nil
		}
		return pooler.New(node, cfg)
	}})
	o := &redis.Options{Addr: "10.0.0.1:6379"}
	if f.Name != "" {
		reflect.ValueOf(o).Elem().FieldByIndex(f.Index).Set(v)
	}
	if f.Name == "ConnMaxLifetimeJitter" {
		o.ConnMaxLifetime = time.Hour
	}
	out := d.Options(o)
	nc, err := out.Dialer(t.Context(), "tcp", "10.0.0.1:6379")
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Close()
	return reflect.ValueOf(out).Elem(), pool
}

// same compares the values of two fields; of functions only whether there is one.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Func {
		return a.IsNil() == b.IsNil()
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func TestTheDocumentationOfOptionsSaysWhatEachFieldDoes(t *testing.T) {
	table := optionsTable(t)
	plain, plainPool := given(t, reflect.StructField{}, reflect.Value{})
	if want := 10*runtime.GOMAXPROCS(0) + redis.DefaultPipelinePoolSize; plainPool.MaxOpenConns != want {
		t.Errorf("%d sockets where nothing is set, go-redis has %d", plainPool.MaxOpenConns, want)
	}
	handles := redis.Options{PoolSize: 4096, MaxIdleConns: 1280, ConnMaxIdleTime: -1}
	pooled := map[string]any{
		"PoolSize": 7 + redis.DefaultPipelinePoolSize, "MaxActiveConns": 7 + redis.DefaultPipelinePoolSize,
		"MinIdleConns": 7, "MaxIdleConns": 7, "MaxConcurrentDials": 7,
		"ConnMaxIdleTime": time.Minute, "ConnMaxLifetime": time.Minute, "ConnMaxLifetimeJitter": time.Minute, "DialTimeout": time.Minute,
	}
	defaults := map[string]any{
		"ContextTimeoutEnabled": true, "DialerRetries": 1,
		"ReadBufferSize": 1024, "WriteBufferSize": 1024, "PipelinePoolSize": 64, "PipelineReadBufferSize": 65536, "PipelineWriteBufferSize": 32768,
	}
	inPool := func(name string, cfg pooler.Config) any {
		if regexp.MustCompile("PoolSize|MaxActiveConns").MatchString(name) {
			name = "MaxOpenConns"
		}
		return reflect.ValueOf(cfg).FieldByName(name).Interface()
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[redis.Options]()) {
		if !f.IsExported() {
			continue
		}
		row := table[f.Name]
		delete(table, f.Name)
		v := aValue(f)
		got, pool := given(t, f, v)
		field, unset := got.FieldByIndex(f.Index), plain.FieldByIndex(f.Index)
		kept := func() {
			wrapped := f.Name == "Dialer" || f.Name == "StreamingCredentialsProvider"
			if !wrapped && !same(field, v) {
				t.Errorf("%s is %v and was set to %v: the table says that go-redis has it", f.Name, field, v)
			}
		}
		switch word, _, _ := strings.Cut(row, ","); word {
		case "These are about sockets":
			want := reflect.ValueOf(handles).FieldByIndex(f.Index)
			if f.Name == "MinIdleConns" {
				want = reflect.ValueOf(1)
			}
			if !same(field, want) {
				t.Errorf("%s is %v for go-redis, want what suits handles, %v", f.Name, field, want)
			}
			if have, was := inPool(f.Name, pool), inPool(f.Name, plainPool); have != pooled[f.Name] || have == was {
				t.Errorf("%s: the pool has %v, and %v without it; want %v", f.Name, have, was, pooled[f.Name])
			}
		case "These remain with go-redis":
			kept()
			if want := pooled[f.Name]; want != nil && inPool(f.Name, pool) != want {
				t.Errorf("%s: the pool has %v, want %v", f.Name, inPool(f.Name, pool), want)
			}
		case "Of these the default is another one":
			kept()
			if want := defaults[f.Name]; want != nil && unset.Interface() != want {
				t.Errorf("%s is %v if unset, want %v", f.Name, unset, want)
			}
		case "These have no effect", "These are go-redis's alone":
			kept()
			if !reflect.DeepEqual(pool, plainPool) {
				t.Errorf("%s: the pool has another configuration", f.Name)
			}
		default:
			t.Errorf("%s isn't in the table, or stands under %q", f.Name, row)
		}
	}
	for name := range table {
		t.Errorf("%s is in the table and no field of redis.Options", name)
	}
}
