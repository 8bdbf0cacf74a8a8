package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// ledger is all that a driver's writes and replies are checked by. What is in it is
// registered before the callers start.
type ledger struct {
	driver   string
	counters []*counter
	pairs    [][2]*counter // written by transactions, so equal
	pushed   *items        // nil: nobody pushes
	foreign  atomic.Int64  // wrong replies to reads
	missing  atomic.Int64  // reads of a key that is there, and that weren't told so
}

// key returns the name of a key of this driver.
func (l *ledger) key(name string) string { return keyPrefix + l.driver + ":" + name }

const keyPrefix = "testbench:"

// shortKey is a key as people are shown it.
func shortKey(key string) string {
	_, name, _ := strings.Cut(strings.TrimPrefix(key, keyPrefix), ":")
	return name
}

// newCounter registers a counter.
func (l *ledger) newCounter(name string) *counter {
	c := newCounter(l.key(name), len(l.counters))
	l.counters = append(l.counters, c)
	return c
}

// newPair registers two counters that are written together, and so live in one slot.
func (l *ledger) newPair(name string) [2]*counter {
	p := [2]*counter{l.newCounter("{" + name + "}:a"), l.newCounter("{" + name + "}:b")}
	l.pairs = append(l.pairs, p)
	return p
}

// queue and taken are the lists that items go through; they live in one slot.
func (l *ledger) queue() string { return l.key("{queue}:waiting") }
func (l *ledger) taken() string { return l.key("{queue}:taken") }

// read checks the reply to a GET of a key whose value is [content].
func (l *ledger) read(key string, cmd *redis.StringCmd) {
	switch value, err := cmd.Result(); {
	case errors.Is(err, redis.Nil):
		l.missing.Add(1)
	case err == nil && value != content(key):
		l.foreign.Add(1)
	}
}

// content is the value of a key that is only read.
func content(key string) string { return key + " " + strings.Repeat("x", 32) }

// prepare writes what the callers expect to find.
func (l *ledger) prepare(ctx context.Context, admin redis.UniversalClient) error {
	_, err := admin.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, c := range l.counters {
			p.Set(ctx, c.key, c.base, 0)
		}
		for n := range articles {
			p.Set(ctx, l.article(n), content(l.article(n)), 0)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("preparing the keys of %s: %w", l.driver, err)
	}
	return nil
}

// articles is how many keys there are to read.
const articles = 1000

func (l *ledger) article(n int) string { return l.key(fmt.Sprintf("article:%d", n)) }

// settle compares what the callers were told with what the servers have. The callers
// have ended.
func (l *ledger) settle(ctx context.Context, admin redis.UniversalClient) (account, error) {
	values, found, err := l.quiet(ctx, admin)
	if err != nil {
		return account{}, fmt.Errorf("reading what %s has written: %w", l.driver, err)
	}
	total := account{Foreign: l.foreign.Load(), Lost: l.missing.Load()}
	for i, c := range l.counters {
		total = total.plus(c.settle(values[i]))
	}
	for _, p := range l.pairs {
		a, b := p[0].last-p[0].base, p[1].last-p[1].base
		total.Torn += max(a-b, b-a)
	}
	if l.pushed != nil {
		total = total.plus(l.pushed.settle(found))
	}
	return total, nil
}

// quiet reads all that was written, again until nothing changes any more: requests whose
// callers gave up may still be under way.
func (l *ledger) quiet(ctx context.Context, admin redis.UniversalClient) (values []int64, found []string, err error) {
	for {
		v, f, err := l.fetch(ctx, admin)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, nil, err
		case err != nil: // there may be an election
		case values != nil && slices.Equal(v, values) && slices.Equal(f, found):
			return v, f, nil
		default:
			values, found = v, f
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// fetch reads all that was written.
func (l *ledger) fetch(ctx context.Context, admin redis.UniversalClient) ([]int64, []string, error) {
	values := make([]int64, len(l.counters))
	for i, c := range l.counters {
		var err error
		if values[i], err = admin.Get(ctx, c.key).Int64(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, nil, fmt.Errorf("%s: %w", c.key, err)
		}
	}
	var found []string
	for _, list := range []string{l.queue(), l.taken()} {
		some, err := admin.LRange(ctx, list, 0, -1).Result()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", list, err)
		}
		found = append(found, some...)
	}
	return values, found, nil
}

// soFar is what is known while the callers work.
func (l *ledger) soFar() account {
	total := account{Foreign: l.foreign.Load(), Lost: l.missing.Load()}
	for _, c := range l.counters {
		total = total.plus(c.soFar())
	}
	if l.pushed != nil {
		total = total.plus(l.pushed.soFar())
	}
	return total
}
