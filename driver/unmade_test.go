package driver_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// Every exported method of a Driver that New hasn't made returns, those to come too.
func TestNoMethodOfAnUnmadeDriverPanics(t *testing.T) {
	for name, d := range map[string]*driver.Driver{"nil": nil, "zero": {}} {
		of := reflect.TypeFor[*driver.Driver]()
		for m := range of.Methods() {
			t.Run(name+"/"+m.Name, func(t *testing.T) {
				defer func() {
					if r := recover(); r != nil {
						t.Errorf("panic: %v", r)
					}
				}()
				args := []reflect.Value{reflect.ValueOf(d)}
				for in := range m.Type.Ins() {
					if len(args) > 1 || in != of {
						args = append(args, reflect.Zero(in))
					}
				}
				if m.Type.IsVariadic() {
					m.Func.CallSlice(args)
				} else {
					m.Func.Call(args)
				}
			})
		}
	}
}

func TestAnUnmadeDriverSaysWhatIsWrong(t *testing.T) {
	for name, d := range map[string]*driver.Driver{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr}))
			defer rdb.Close()
			if err := rdb.Ping(t.Context()).Err(); !errors.Is(err, pooler.ErrConfig) {
				t.Errorf("a command: %v", err)
			}
			if err := d.Close(); !errors.Is(err, pooler.ErrConfig) {
				t.Errorf("Close: %v", err)
			}
			if n := len(d.Nodes()); n != 0 {
				t.Errorf("%d nodes", n)
			}
		})
	}
}
