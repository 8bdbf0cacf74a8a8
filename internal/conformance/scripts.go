package conformance

import (
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

var scriptGuarantees = []guarantee{
	{name: "EVAL returns what the script does", check: func(w *world) {
		k := w.key("k")
		want(w, any("OK"))(w.rdb.Eval(w.ctx, `return redis.call("SET", KEYS[1], ARGV[1])`, []string{k}, "v").Result())
		want(w, any("v"))(w.rdb.Eval(w.ctx, `return redis.call("GET", KEYS[1])`, []string{k}).Result())
		want(w, any([]any{int64(1), "two", []any{int64(3)}}))(w.rdb.Eval(w.ctx, `return {1, "two", {3}}`, nil).Result())
		wantErr(w, w.rdb.Eval(w.ctx, `return nil`, nil).Err(), redis.Nil)
	}},
	{name: "a script's error is the command's and the connection goes on", check: func(w *world) {
		for range 3 {
			if err := w.rdb.Eval(w.ctx, `return redis.error_reply("MINE of my own")`, nil).Err(); !redis.HasErrorPrefix(err, "MINE") {
				w.Fatalf("error_reply: %v", err)
			}
			if err := w.rdb.Eval(w.ctx, `return this is no lua`, nil).Err(); err == nil {
				w.Fatal("a script that doesn't compile ran")
			}
			want(w, "on")(w.rdb.Echo(w.ctx, "on").Result())
		}
	}},
	{name: "EVALSHA of an unknown script is NOSCRIPT", check: func(w *world) {
		wantPrefix(w, w.rdb.EvalSha(w.ctx, "ffffffffffffffffffffffffffffffffffffffff", nil).Err(), "NOSCRIPT")
	}},
	{name: "Script.Run loads what the server doesn't know, from many goroutines", check: func(w *world) {
		// The comment makes the script, and so its hash, this guarantee's own.
		s := redis.NewScript("-- " + w.id + "\nreturn {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}")
		want(w, []bool{false})(s.Exists(w.ctx, w.node(w.rdb)).Result())
		each(w, 16, func(i int) error {
			k := w.key(fmt.Sprint(i))
			for n := range 10 {
				res, err := s.Run(w.ctx, w.rdb, []string{k}, n).Slice()
				if err != nil {
					return err
				}
				if res[0] != k || res[1] != fmt.Sprint(n) || res[2] != int64(n+1) {
					return wrongf("run %d on %s: got %v", n, k, res)
				}
			}
			return nil
		})
		want(w, []bool{true})(s.Exists(w.ctx, w.node(w.rdb)).Result())
	}},
	{name: "SCRIPT LOAD is seen by every connection", check: func(w *world) {
		sha, err := w.rdb.ScriptLoad(w.ctx, "-- "+w.id+"\nreturn ARGV[1]").Result()
		ok(w, err)
		each(w, 16, func(i int) error {
			got, err := w.rdb.EvalSha(w.ctx, sha, nil, i).Text()
			return answer("EVALSHA", got, err, fmt.Sprint(i))
		})
	}},
	{name: "scripts run in pipelines and transactions", check: func(w *world) {
		const src = `return redis.call("INCRBY", KEYS[1], ARGV[1])`
		k := w.key("k")
		for i, run := range []func(func(redis.Pipeliner) error) ([]redis.Cmder, error){
			func(f func(redis.Pipeliner) error) ([]redis.Cmder, error) { return w.rdb.Pipelined(w.ctx, f) },
			func(f func(redis.Pipeliner) error) ([]redis.Cmder, error) { return w.rdb.TxPipelined(w.ctx, f) },
		} {
			cmds, err := run(func(p redis.Pipeliner) error {
				p.Eval(w.ctx, src, []string{k}, 1)
				p.Eval(w.ctx, src, []string{k}, 10)
				return nil
			})
			ok(w, err)
			want(w, 11*i+1)(cmds[0].(*redis.Cmd).Int())
			want(w, 11*i+11)(cmds[1].(*redis.Cmd).Int())
		}
	}},
	{name: "functions are loaded, called and deleted", check: func(w *world) {
		node := w.node(w.rdb)
		code := fmt.Sprintf("#!lua name=%[1]s\nredis.register_function('%[1]s_echo', function(keys, args) return args[1] end)", w.id)
		want(w, w.id)(node.FunctionLoad(w.ctx, code).Result())
		each(w, 8, func(i int) error {
			got, err := node.FCall(w.ctx, w.id+"_echo", nil, i).Text()
			return answer("FCALL", got, err, fmt.Sprint(i))
		})
		want(w, "OK")(node.FunctionDelete(w.ctx, w.id).Result())
		if err := node.FCall(w.ctx, w.id+"_echo", nil).Err(); err == nil || errors.Is(err, redis.Nil) {
			w.Fatalf("FCALL of a deleted function: %v", err)
		}
	}},
}
