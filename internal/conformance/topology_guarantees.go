package conformance

import (
	"context"
	"fmt"
	"net"

	"github.com/redis/go-redis/v9"
)

// spread is how many keys of slots of their own a guarantee has: so many that each of
// a few nodes has some of them.
const spread = 200

// manyNodes are the topologies whose keys are spread.
var manyNodes = []Topology{Cluster, Ring}

var topologyGuarantees = []guarantee{
	{name: "keys are spread over the nodes and found there", of: manyNodes, check: func(w *world) {
		each(w, 8, func(i int) error {
			for n := i; n < spread; n += 8 {
				if err := w.rdb.Set(w.ctx, w.spreadKey(n), n, 0).Err(); err != nil {
					return err
				}
			}
			return nil
		})
		each(w, 8, func(i int) error {
			for n := i; n < spread; n += 8 {
				got, err := w.rdb.Get(w.ctx, w.spreadKey(n)).Result()
				if err := answer("GET", got, err, fmt.Sprint(n)); err != nil {
					return err
				}
			}
			return nil
		})
		there := 0
		for _, node := range w.masters() {
			keys, err := node.Keys(w.ctx, w.id+"-*").Result()
			ok(w, err)
			if len(keys) == 0 {
				w.Errorf("%v has no key", node)
			}
			there += len(keys)
		}
		equal(w, there, spread)
	}},
	{name: "a pipeline over all nodes keeps order around errors", of: manyNodes, check: func(w *world) {
		each(w, 8, func(i int) error {
			cmds, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
				for n := range spread {
					k := w.spreadKey(i*spread + n)
					p.Set(w.ctx, k, n, 0)
					p.LPush(w.ctx, k, "x")
					p.Get(w.ctx, k)
				}
				return nil
			})
			if !redis.HasErrorPrefix(err, "WRONGTYPE") {
				return wrongf("pipeline: error %v", err)
			}
			for n := range spread {
				if err := cmds[3*n].Err(); err != nil {
					return wrongf("SET %d: %v", n, err)
				}
				if err := cmds[3*n+1].Err(); !redis.HasErrorPrefix(err, "WRONGTYPE") {
					return wrongf("LPUSH %d: %v", n, err)
				}
				get := cmds[3*n+2].(*redis.StringCmd)
				if err := answer(fmt.Sprint("GET ", n), get.Val(), get.Err(), fmt.Sprint(n)); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "transactions on all nodes side by side keep to themselves", of: manyNodes, check: func(w *world) {
		each(w, 16, func(i int) error {
			for n := range 20 {
				k := w.spreadKey(n)
				cmds, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
					p.Set(w.ctx, k, i, 0)
					p.Get(w.ctx, k)
					return nil
				})
				if err != nil {
					return err
				}
				get := cmds[1].(*redis.StringCmd)
				if err := answer("GET in a transaction", get.Val(), get.Err(), fmt.Sprint(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "subscriptions on all nodes hear their own messages", of: manyNodes, check: func(w *world) {
		each(w, 24, func(i int) error {
			ch := w.spreadKey(i)
			sub := w.rdb.Subscribe(w.ctx, ch)
			defer sub.Close()
			if _, err := sub.Receive(w.ctx); err != nil {
				return err
			}
			for n := range 5 {
				v := fmt.Sprintf("%d.%d", i, n)
				if err := w.publish(w.rdb, ch, v); err != nil {
					return err
				}
				if err := w.hears(sub, ch, v); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "shard channels on all nodes hear their own messages", of: []Topology{Cluster}, check: func(w *world) {
		each(w, 24, func(i int) error {
			ch := w.spreadKey(i)
			sub := w.rdb.SSubscribe(w.ctx, ch)
			defer sub.Close()
			if _, err := sub.Receive(w.ctx); err != nil {
				return err
			}
			if n, err := w.rdb.SPublish(w.ctx, ch, ch).Result(); err != nil || n != 1 {
				return wrongf("SPUBLISH reached %d, error %v", n, err)
			}
			return w.hears(sub, ch, ch)
		})
	}},
	{name: "a script that is loaded is known to all masters", of: []Topology{Cluster}, check: func(w *world) {
		sha, err := w.rdb.ScriptLoad(w.ctx, "-- "+w.id+"\nreturn {KEYS[1], ARGV[1]}").Result()
		ok(w, err)
		each(w, 16, func(i int) error {
			got, err := w.rdb.EvalSha(w.ctx, sha, []string{w.spreadKey(i)}, i).StringSlice()
			if err != nil || len(got) != 2 || got[0] != w.spreadKey(i) || got[1] != fmt.Sprint(i) {
				return wrongf("EVALSHA: %v, %v", got, err)
			}
			return nil
		})
	}},
	{name: "keys of two slots are refused where a command can't be split", of: []Topology{Cluster}, check: func(w *world) {
		a, b := w.spreadKey(0), w.spreadKey(1)
		ok(w, w.rdb.Set(w.ctx, a, "v", 0).Err())
		for range 3 {
			wantPrefix(w, w.rdb.Rename(w.ctx, a, b).Err(), "CROSSSLOT")
			_, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
				p.Set(w.ctx, a, "w", 0)
				p.Set(w.ctx, b, "w", 0)
				return nil
			})
			wantErr(w, err, redis.ErrCrossSlot)
			want(w, "v")(w.rdb.Get(w.ctx, a).Result())
			wantErr(w, w.rdb.Get(w.ctx, b).Err(), redis.Nil)
		}
	}},
	{name: "writes go to the master", of: []Topology{Failover, FailoverCluster}, check: func(w *world) {
		each(w, 8, func(i int) error {
			for range 10 {
				if err := w.rdb.Incr(w.ctx, w.key(fmt.Sprint(i))).Err(); err != nil {
					return err
				}
			}
			return nil
		})
		role, err := w.node(w.rdb).Do(w.ctx, "ROLE").Slice()
		ok(w, err)
		equal(w, role[0], any("master"))
		want(w, "10")(w.rdb.Get(w.ctx, w.key("0")).Result())
	}},
	{name: "a node that is asked for is the one asked", of: []Topology{Cluster, FailoverCluster, Ring}, check: func(w *world) {
		ids := map[string]bool{}
		nodes := w.nodes(w.rdb)
		for _, node := range nodes {
			info, err := node.InfoMap(w.ctx, "server").Result()
			ok(w, err)
			_, port, err := net.SplitHostPort(node.Options().Addr)
			ok(w, err)
			equal(w, info["Server"]["tcp_port"], port)
			ids[info["Server"]["run_id"]] = true
		}
		equal(w, len(ids), len(nodes))
	}},
}

// spreadKey is a key of this guarantee whose slot is its own.
func (w *world) spreadKey(n int) string { return fmt.Sprintf("%s-%d", w.id, n) }

// masters returns the clients of the nodes that have keys of their own.
func (w *world) masters() (masters []*redis.Client) {
	w.Helper()
	c, cluster := w.rdb.(*redis.ClusterClient)
	if !cluster {
		return w.nodes(w.rdb)
	}
	found := make(chan *redis.Client, 100)
	ok(w, c.ForEachMaster(w.ctx, func(_ context.Context, node *redis.Client) error {
		found <- node
		return nil
	}))
	close(found)
	for node := range found {
		masters = append(masters, node)
	}
	return masters
}
