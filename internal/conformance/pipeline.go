package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

var pipelineGuarantees = []guarantee{
	{name: "a pipeline of 1 keeps its reply", check: pipelineOf(1)},
	{name: "a pipeline of 10 keeps order around errors", check: pipelineOf(10)},
	{name: "a pipeline of 1000 keeps order around errors", works: true, check: pipelineOf(1000)},
	{name: "a pipeline of 20000 keeps order around errors", works: true, check: pipelineOf(20_000)},
	{name: "concurrent pipelines get their own replies", works: true, check: func(w *world) {
		bad := w.key("string")
		ok(w, w.rdb.Set(w.ctx, bad, "x", 0).Err())
		each(w, 24, func(i int) error {
			for round := range 5 {
				if err := checkPipeline(w, w.rdb, bad, 1+(i*7+round)%90, fmt.Sprintf("%d.%d", i, round)); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "an empty pipeline sends nothing", check: func(w *world) {
		cmds, err := w.rdb.Pipelined(w.ctx, func(redis.Pipeliner) error { return nil })
		ok(w, err)
		equal(w, len(cmds), 0)
	}},
	{name: "an error in the pipeline's function sends nothing", check: func(w *world) {
		k := w.key("k")
		cause := errors.New("changed my mind")
		_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Set(w.ctx, k, "v", 0)
			return cause
		})
		wantErr(w, err, cause)
		wantErr(w, w.rdb.Get(w.ctx, k).Err(), redis.Nil)
	}},
	{name: "a discarded pipeline sends nothing", check: func(w *world) {
		k := w.key("k")
		p := w.rdb.Pipeline()
		p.Set(w.ctx, k, "v", 0)
		p.Discard()
		equal(w, p.Len(), 0)
		p.Echo(w.ctx, "kept")
		cmds, err := p.Exec(w.ctx)
		ok(w, err)
		equal(w, len(cmds), 1)
		wantErr(w, w.rdb.Get(w.ctx, k).Err(), redis.Nil)
	}},
	{name: "a pipeline is reused after Exec", check: func(w *world) {
		p := w.rdb.Pipeline()
		for i := range 5 {
			echo := p.Echo(w.ctx, fmt.Sprint(i))
			if _, err := p.Exec(w.ctx); err != nil {
				w.Fatal(err)
			}
			want(w, fmt.Sprint(i))(echo.Result())
		}
	}},
	{name: "redis.Nil in a pipeline is its command's and the first error of Exec", check: func(w *world) {
		var none *redis.StringCmd
		var last *redis.StringCmd
		_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Echo(w.ctx, "a")
			none = p.Get(w.ctx, w.key("none"))
			last = p.Echo(w.ctx, "b")
			return nil
		})
		wantErr(w, err, redis.Nil)
		wantErr(w, none.Err(), redis.Nil)
		want(w, "b")(last.Result())
	}},
	{name: "values over 64 KiB in the middle of pipelines keep order", works: true, check: func(w *world) {
		each(w, 8, func(i int) error {
			key := func(n int) string { return w.key(fmt.Sprintf("%d-%d", i, n)) }
			values := [][]byte{binary(65_537, byte(i)), binary(10, byte(i)), binary(300_000, byte(i)), binary(65_536, byte(i))}
			var echoes []*redis.StringCmd
			_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
				for n, v := range values {
					echoes = append(echoes, p.Echo(w.ctx, key(n)))
					p.Set(w.ctx, key(n), v, 0)
				}
				echoes = append(echoes, p.Echo(w.ctx, key(len(values))))
				return nil
			})
			if err != nil {
				return err
			}
			for n, e := range echoes {
				if err := answer("ECHO between big values", e.Val(), e.Err(), key(n)); err != nil {
					return err
				}
			}
			var gets []*redis.StringCmd
			if _, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
				for n := range values {
					gets = append(gets, p.Get(w.ctx, key(n)))
				}
				return nil
			}); err != nil {
				return err
			}
			for n, g := range gets {
				if got, err := g.Bytes(); err != nil || !bytes.Equal(got, values[n]) {
					return wrongf("value %d: %d bytes, error %v", n, len(got), err)
				}
			}
			return nil
		})
	}},
	{name: "a pipeline on a Conn stays on its connection", check: func(w *world) {
		conn := w.node(w.rdb).EphemeralConn()
		defer conn.Close()
		id, err := conn.ClientID(w.ctx).Result()
		ok(w, err)
		for range 5 {
			cmds, err := conn.Pipelined(w.ctx, func(p redis.Pipeliner) error {
				p.ClientID(w.ctx)
				p.Echo(w.ctx, "x")
				p.ClientID(w.ctx)
				return nil
			})
			ok(w, err)
			want(w, id)(cmds[0].(*redis.IntCmd).Result())
			want(w, id)(cmds[2].(*redis.IntCmd).Result())
		}
	}},
	{name: "a blocking command inside a pipeline waits for its value", check: func(w *world) {
		k := w.key("l")
		ok(w, w.rdb.RPush(w.ctx, k, "v").Err())
		var pop *redis.StringSliceCmd
		var last *redis.StringCmd
		_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Echo(w.ctx, "first")
			pop = p.BLPop(w.ctx, 0, k)
			last = p.Echo(w.ctx, "last")
			return nil
		})
		ok(w, err)
		want(w, []string{k, "v"})(pop.Result())
		want(w, "last")(last.Result())
	}},
}

func pipelineOf(n int) func(*world) {
	return func(w *world) {
		bad := w.key("string")
		ok(w, w.rdb.Set(w.ctx, bad, "x", 0).Err())
		ok(w, checkPipeline(w, w.rdb, bad, n, "p"))
		want(w, "after")(w.rdb.Echo(w.ctx, "after").Result())
	}
}

// checkPipeline runs n commands of which every fifth, from the third on, fails
// on the string at bad, and compares each reply with its command.
func checkPipeline(w *world, c redis.UniversalClient, bad string, n int, tag string) error {
	fails := func(i int) bool { return i%5 == 2 }
	cmds, err := c.Pipelined(w.ctx, func(p redis.Pipeliner) error {
		for i := range n {
			if fails(i) {
				p.LPush(w.ctx, bad, i)
			} else {
				p.Echo(w.ctx, fmt.Sprintf("%s-%d", tag, i))
			}
		}
		return nil
	})
	if n > 2 && !redis.HasErrorPrefix(err, "WRONGTYPE") || n <= 2 && err != nil {
		return wrongf("pipeline of %d: error %v", n, err)
	}
	if len(cmds) != n {
		return wrongf("%d commands came back of %d", len(cmds), n)
	}
	for i, cmd := range cmds {
		if fails(i) {
			if err := cmd.Err(); err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
				return wrongf("command %d of %d: error %v, want WRONGTYPE", i, n, err)
			}
			continue
		}
		echo := cmd.(*redis.StringCmd)
		if err := answer(fmt.Sprintf("command %d of %d", i, n), echo.Val(), echo.Err(), fmt.Sprintf("%s-%d", tag, i)); err != nil {
			return err
		}
	}
	return nil
}
