package otelhooks_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/pooler"
)

// TestNothingOfTheUsersIsExported has secrets in everything that a user gives:
// all of it, but for what is asked for, stays in the process.
func TestNothingOfTheUsersIsExported(tt *testing.T) {
	t := newTester(tt)
	pools := t.pools()
	server := testkit.Start(tt, testkit.Redis, testkit.WithUser("secret-user", "secret-password", "allkeys allchannels allcommands"))
	d, dialed := t.driver(pools, driver.Config{})
	c := redis.NewClient(d.Options(&redis.Options{Addr: server.Addr, Username: "secret-user", Password: "secret-password", ClientName: "secret-name"}))
	defer c.Close()
	t.attach(c, t.tracing(otelhooks.WithQueryText(true)), t.metrics())
	exerciseSecrets(t, c)

	refused := redis.NewClient(d.Options(&redis.Options{Addr: server.Addr, Username: "secret-user", Password: "secret-wrong"}))
	defer refused.Close()
	t.attach(refused, t.tracing(), t.metrics())
	if err := refused.Get(t.ctx, "secret-key").Err(); err == nil {
		t.Fatal("a wrong password was taken")
	}

	dialed()
	dump := t.dump()
	for _, want := range []string{"EVAL ? ? ? ?", "WRONGTYPE", "everpool.pins", "everpool.dials", "error.type", "db.client.connection.create_time"} {
		if !strings.Contains(dump, want) {
			t.Errorf("%q isn't exported: what follows would prove nothing", want)
		}
	}
	if i := strings.Index(strings.ToLower(dump), "secret"); i >= 0 {
		t.Errorf("exported: %s", dump[max(0, i-200):min(len(dump), i+200)])
	}
}

// exerciseSecrets sends secrets in all places.
func exerciseSecrets(t *tester, c *redis.Client) {
	t.must(c.Set(t.ctx, "secret-key", "secret-value", 0).Err())
	c.Get(t.ctx, "secret-key")
	c.LPush(t.ctx, "secret-key", "secret-value")                                               // WRONGTYPE
	c.Eval(t.ctx, "return redis.error_reply('SECRET '..ARGV[1])", []string{"secret-key"}, "v") // an error of its own
	c.Eval(t.ctx, "secret, that can't be parsed", []string{"secret-key"}, "secret-value")      // an error that quotes it
	c.Do(t.ctx, "SECRET.COMMAND", "secret-value")                                              // an error that quotes it
	c.Do(t.ctx, "CONFIG", "SET", "secret-parameter", "secret-value")                           // an error that quotes it
	c.EvalSha(t.ctx, "secret-sha", nil)                                                        // no digest
	c.FCall(t.ctx, "secret-function", nil)                                                     // no name
	c.Do(t.ctx, "ACL", "SETUSER", "secret-other", ">secret-password2")                         // a password
	c.Do(t.ctx, "AUTH", "secret-user", "secret-wrong")                                         // a password
	pipe := c.TxPipeline()
	pipe.Set(t.ctx, "secret-key", "secret-value", 0)
	pipe.LPush(t.ctx, "secret-key", "secret-value")
	if _, err := pipe.Exec(t.ctx); err == nil {
		t.Error("LPUSH on a string succeeded")
	}
	_ = c.Watch(t.ctx, func(tx *redis.Tx) error { return tx.Get(t.ctx, "secret-key").Err() }, "secret-key")
	sub := c.Subscribe(t.ctx, "secret-channel")
	_, err := sub.Receive(t.ctx)
	t.must(err)
	t.must(sub.Close())
}

// Who gives a URL for an address has its password in no name.
func TestAURLForAnAddressIsNotExported(tt *testing.T) {
	for addr, want := range map[string]string{
		"redis://:secret@127.0.0.1:1/0": "127.0.0.1:1",
		"user:secret@127.0.0.1:1":       "127.0.0.1:1",
		".secret@127.0.0.1:1":           "127.0.0.1:1",
		"127.0.0.1:1?password=secret":   "127.0.0.1:1",
	} {
		t := newTester(tt)
		c := redis.NewClient(&redis.Options{Addr: addr, DB: 3, MaxRetries: -1, DialerRetries: 1})
		defer c.Close()
		t.attach(c, t.tracing(), t.metrics())
		c.Get(t.ctx, "k")
		t.stock(c, "")
		var asked string
		for _, p := range []*otelhooks.Pool{t.pools(), t.pools(otelhooks.WithPoolName(func(addr string) string { asked = addr; return addr }))} {
			t.watch(p, &nodes{[]pooler.NodeStatus{{Addr: addr}}})
			p.OnWait(addr, time.Millisecond, nil)
		}
		dump := t.dump()
		if strings.Contains(dump, "secret") {
			t.Errorf("%s is exported: %s", addr, dump)
		}
		t.want("what WithPoolName is asked", asked, want)
		got := t.collectPoints()
		t.want("waits", got["db.client.connection.wait_time"], map[string]int64{want: 2})
		if _, ok := got["db.client.connection.idle.min"][want+"/3"]; !ok {
			t.Errorf("the stock pool isn't %s/3: %v", want, got["db.client.connection.idle.min"])
		}
	}
}
