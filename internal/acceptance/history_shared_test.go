package acceptance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// pushMany pushes n values in a pipeline, or in a transaction.
func (p *pusher) pushMany(s side, t *tally, n int, tx bool) {
	run := s.rdb.Pipelined
	if tx {
		run = s.rdb.TxPipelined
	}
	ctx := context.Background()
	cmds := make([]*redis.IntCmd, n)
	batch := t.call(func() error {
		_, err := run(ctx, func(pipe redis.Pipeliner) error {
			for i := range cmds {
				cmds[i] = pipe.LPush(ctx, "history", fmt.Sprintf("%d:%d", p.id, len(p.verdicts)+i))
			}
			return nil
		})
		return err
	})
	for _, c := range cmds {
		err := c.Err()
		if err == nil && tx {
			err = batch // the replies are all or none
		}
		t.incr(err)
		p.told(err)
	}
}

// Histories on shared connections: single pushes, pipelines and transactions,
// under resets, kills, stand-stills and silence.
//
// Once, seldom: a panic in Conn.atPush. Lane.attend led
// with a rider that wasn't receiving, so bury took the lead from it as from one
// that has not come yet, and the connection's buffer went while attend read.
func TestSharedHistoriesTellTheTruth(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for name, cfg := range map[string]pooler.Config{
		"one lane":               {SharedConns: 1},
		"two lanes":              {},
		"six lanes, suspicious":  {SharedConns: 6, SilenceAfter: 20 * time.Millisecond},
		"two of three, no doubt": {MaxOpenConns: 3, SilenceAfter: -1},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Works(t)
			push := func(s side, p *pusher, i int, saw *tally) {
				switch i % 4 {
				case 0:
					p.pushMany(s, saw, 1+i%7, i%8 == 0)
				case 1, 2:
					p.push(context.Background(), s.rdb, saw)
				default:
					s.readOnce(p.id, i, saw)
				}
			}
			st := tellsTheTruth(t, way{kind: testkit.Redis}, cfg, 32, push, func(proxy *testkit.Proxy) {
				pause(long(time.Second))
				proxy.Silence(true)
				pause(long(time.Second))
			})
			if st.Shared == 0 {
				t.Error("nothing was shared")
			}
		})
	}
}
