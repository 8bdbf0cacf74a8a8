package otelhooks_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/otelhooks"
)

func (t *tester) query() string {
	t.Helper()
	text, _ := attrsOf(t.one().Attributes)["db.query.text"].(string)
	return text
}

func TestQueryTextHasNoArguments(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client(t.tracing(otelhooks.WithQueryText(true)))
	c.Set(t.ctx, "key", "value", 0)
	t.want("SET", t.query(), "SET ? ?")
	c.Ping(t.ctx)
	t.want("PING", t.query(), "PING")
	c.ConfigSet(t.ctx, "requirepass", "secret")
	t.want("CONFIG SET", t.query(), "CONFIG SET ? ?")
	pipe := c.TxPipeline()
	pipe.Set(t.ctx, "key", "value", 0)
	pipe.Get(t.ctx, "key")
	_, err := pipe.Exec(t.ctx)
	t.must(err)
	t.want("MULTI", t.query(), "SET ? ?; GET ?")
}

func TestQueryTextMayHaveKeys(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client(t.tracing(otelhooks.WithQueryText(true), otelhooks.WithQueryKeys(true)))
	for want, args := range map[string][]any{
		"SET user:1 ?":     {"set", "user:1", "v"},
		"MSET a ? b ?":     {"mset", "a", "v", "b", "v"},
		"EVAL ? ? k1 k2 ?": {"eval", "return 1", 2, "k1", "k2", "v"},
		"BLPOP 7 b ?":      {"blpop", 7, []byte("b"), "0.01"},
		`GET "a b;c"`:      {"get", "a b;c"},
		`GET ""`:           {"get", ""},
		`GET "?"`:          {"get", "?"},
		`GET "\xff\n"`:     {"get", "\xff\n"},
		"GET schlüssel":    {"get", "schlüssel"},
		"GET " + strings.Repeat("k", 128) + "...": {"get", strings.Repeat("k", 129)},
		"other ? ?": {"my.command", "key", "v"},
	} {
		c.Do(t.ctx, args...)
		t.want("query", t.query(), want)
	}
}

func TestQueryTextIsBounded(tt *testing.T) {
	for _, keys := range []bool{false, true} {
		t := newTester(tt)
		c, _ := t.client(t.tracing(otelhooks.WithQueryText(true), otelhooks.WithQueryKeys(keys)))
		args := []any{"del"}
		for range 10_000 {
			args = append(args, strings.Repeat("k", 500))
		}
		c.Do(t.ctx, args...)
		text := t.query()
		if len(text) > 2048+200 || !strings.HasSuffix(text, " ...") {
			t.Errorf("%d bytes that end in %q", len(text), text[len(text)-8:])
		}
		batch := func(n int, cmd func(redis.Pipeliner)) string {
			pipe := c.Pipeline()
			for range n {
				cmd(pipe)
			}
			_, err := pipe.Exec(t.ctx)
			t.must(err)
			return t.query()
		}
		text = batch(33, func(p redis.Pipeliner) { p.Ping(t.ctx) })
		t.want("33 commands", text, strings.Repeat("PING; ", 32)+"...")
		text = batch(32, func(p redis.Pipeliner) { p.Ping(t.ctx) })
		t.want("32 commands", text, strings.Repeat("PING; ", 31)+"PING")
		text = batch(3, func(p redis.Pipeliner) { p.Do(t.ctx, args...) })
		if len(text) > 2048+200 || !strings.HasSuffix(text, " ...; ...") {
			t.Errorf("%d bytes that end in %q", len(text), text[len(text)-12:])
		}
	}
}
