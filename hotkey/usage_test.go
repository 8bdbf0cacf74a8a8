package hotkey_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
)

func TestACountSaysByWhichCommandsWithHowManyMissesAndWhere(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	rdb := newClient(t, server.Addr)
	tracker := newTracker(t, everything())
	attach(t, tracker, rdb)
	ctx := t.Context()
	rdb.HSet(ctx, "there", "f", "v")
	for i := range 10 {
		rdb.HGet(ctx, "there", []string{"f", "none"}[i%2])
		rdb.Get(ctx, "none")
	}
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for range 10 {
			p.HGetAll(ctx, "there")
			p.HGetAll(ctx, "there")
			p.Exists(ctx, "none")
			p.Type(ctx, "there")
		}
		p.HLen(ctx, "there")
		p.HKeys(ctx, "there")
		return nil
	})
	want := []hotkey.Count{
		{
			Key: "there", Count: 42, Lower: 42, Upper: 42, Misses: 5.0 / 42, Node: server.Addr,
			Commands: []hotkey.CommandShare{{"HGETALL", 20.0 / 42}, {"HGET", 10.0 / 42}, {"other", 12.0 / 42}},
		},
		{
			Key: "none", Count: 20, Lower: 20, Upper: 20, Misses: 0.5, Node: server.Addr,
			Commands: []hotkey.CommandShare{{"GET", 0.5}, {"EXISTS", 0.5}},
		},
	}
	got := tracker.Top(hotkey.Reads, 9)
	for i := range got {
		got[i].Rate, got[i].Share = 0, 0
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	body := get(t, tracker, "/?sort=misses").Body.String()
	for _, want := range []string{">GET\u00a050\u00a0%, EXISTS\u00a050\u00a0%<", ">50.0 %<", ">" + server.Addr + "<"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Index(body, ">none<") > strings.Index(body, ">there<") {
		t.Error("the page isn't sorted by misses")
	}
}

// A counter that is another key's now has nothing of the one before.
func TestAKeyHasNothingOfTheOneWhoseCounterItTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker(t, everything())
		set := feed(tracker, "hgetall", "")
		for i := range 2000 {
			set.key(fmt.Sprint("old:", i), 3)
		}
		read(tracker, "new", 500)
		time.Sleep(11 * time.Second)
		top := tracker.Top(hotkey.Reads, 9)
		if len(top) != 1 || cmp.Diff([]hotkey.CommandShare{{"GET", 1}}, top[0].Commands) != "" || top[0].Misses != 0 {
			t.Errorf("%+v, want GET alone", top)
		}
	})
}

// What was of a batch of a cluster may have gone to several nodes.
func TestTheNodeOfABatchOfAClusterIsUnknown(t *testing.T) {
	server := testkit.Start(t, testkit.Redis, testkit.WithCluster())
	server.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	testkit.Await(t, "the cluster is up", func() bool { return strings.Contains(server.Do(t, "CLUSTER", "INFO"), "cluster_state:ok") })
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr}})
	defer rdb.Close()
	for want, use := range map[string]func(context.Context){
		"": func(ctx context.Context) {
			_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "a"); p.Get(ctx, "b"); return nil })
		},
		server.Addr: func(ctx context.Context) { rdb.Get(ctx, "a") },
	} {
		tracker := newTracker(t, everything())
		hook, err := hooks.New(tracker)
		if err != nil {
			t.Fatal(err)
		}
		detach, err := hook.Attach(rdb)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			use(t.Context())
		}
		for _, c := range tracker.Top(hotkey.Reads, 9) {
			if (c.Node == "") != (want == "") || !strings.HasSuffix(want, c.Node) {
				t.Errorf("%s: the node is %q, want %q", c.Key, c.Node, want)
			}
		}
		if len(tracker.Top(hotkey.Reads, 9)) == 0 {
			t.Error("nothing was counted")
		}
		detach()
	}
}
