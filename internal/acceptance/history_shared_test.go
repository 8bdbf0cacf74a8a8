package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
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
		switch {
		case err == nil:
			p.verdicts = append(p.verdicts, acknowledged)
		case errors.Is(err, pooler.ErrUnknownOutcome):
			p.verdicts = append(p.verdicts, unknownOutcome)
		default:
			p.verdicts = append(p.verdicts, neverSent)
		}
	}
}

// Histories on shared connections: single pushes, pipelines and transactions,
// under resets, kills, stand-stills and silence.
//
// Once, seldom: a panic in Conn.atPush. Lane.attend led
// with a rider that wasn't receiving, so bury took the lead from it as from one
// that has not come yet, and the connection's buffer went while attend read.
func TestSharedHistoriesTellTheTruth(t *testing.T) {
	for name, cfg := range map[string]pooler.Config{
		"one lane":               {SharedConns: 1},
		"two lanes":              {},
		"six lanes, suspicious":  {SharedConns: 6, SilenceAfter: 20 * time.Millisecond},
		"two of three, no doubt": {MaxOpenConns: 3, SilenceAfter: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Start(t, testkit.Redis)
			proxy := testkit.NewProxy(t, server.Addr)
			s := ourSide(t, driver.Config{Pool: cfg}, redis.Options{Addr: proxy.Addr(), ReadTimeout: 100 * time.Millisecond, WriteTimeout: 100 * time.Millisecond})
			server.Do(t, "SET", "constant", "value")
			stop := make(chan struct{})
			saw := new(tally)
			pushers := make([]*pusher, 32)
			for id := range pushers {
				pushers[id] = &pusher{id: id}
			}
			wg := repeat(t, stop, len(pushers), func(id, i int) {
				p := pushers[id]
				switch i % 4 {
				case 0:
					p.pushMany(s, saw, 1+i%7, i%8 == 0)
				case 1, 2:
					p.push(context.Background(), s.rdb, saw)
				default:
					saw.reads.Add(1)
					if err := saw.call(func() error { return s.read(context.Background(), fmt.Sprintf("%d-%d", id, i), saw) }); err != nil {
						saw.failedReads.Add(1)
					}
				}
			})
			wg.Go(func() { torment(t, stop, server, proxy) })
			pause(long(time.Second))
			proxy.Silence(true)
			pause(long(time.Second))
			testkit.Await(t, "faults have hit requests in flight", func() bool {
				return saw.unknown.Load() > 0 && saw.incrs.Load() > 0 && s.stats(t).Resent > 0
			})
			close(stop)
			wg.Wait()
			st := s.settled(t)
			t.Logf("%d pushes acknowledged, %d unknown, %d never sent; %d reads, %d failed; %d shared, %d leased, %d dials, closes %v, %d moved, %d resent%s",
				saw.incrs.Load(), saw.unknown.Load(), saw.never.Load(), saw.reads.Load(), saw.failedReads.Load(), st.Shared, st.Leased, st.Dials, st.Closes, st.Moved, st.Resent, saw.failures())
			if saw.wrong.Load() != 0 {
				t.Errorf("%d replies belong to other calls", saw.wrong.Load())
			}
			if st.Shared == 0 {
				t.Error("nothing was shared")
			}
			checkHistory(t, pushed(t, server), pushers)
		})
	}
}
