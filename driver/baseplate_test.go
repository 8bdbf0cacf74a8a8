package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/tracking"
	"github.com/everpool/everpool/pooler"
)

// fromMap opens what a map of keys without their prefix describes.
func fromMap(t *testing.T, m map[string]string, opts ...driver.Option) *driver.DB {
	t.Helper()
	keys := map[string]string{"other.thing": "is none of ours"}
	for k, v := range m {
		keys["rediscluster."+k] = v
	}
	url, more, err := driver.ConfigFromMap("rediscluster.", keys)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, url, append(opts, more...)...)
}

func TestAMapGivesTheDefaultsThatItsProgramsKnow(t *testing.T) {
	db := fromMap(t, map[string]string{"url": "redis://10.0.0.1:1?cluster=true", "timeout": ""})
	o := db.Unwrap().(*redis.ClusterClient).Options()
	if !o.RouteRandomly || !o.ReadOnly {
		t.Errorf("reads don't go to replicas at random: %+v", o)
	}
	server := miniredis.RunT(t)
	db = fromMap(t, map[string]string{"url": "redis://" + server.Addr()})
	if err := db.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if n := db.Driver.Nodes()[0].Stats.MaxOpenConnections; n != 50 {
		t.Errorf("at most %d connections, want 50", n)
	}
}

func TestTimespansOfAMap(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"200 milliseconds": 200 * time.Millisecond, "1 millisecond": time.Millisecond, "3 seconds": 3 * time.Second, "1 second": time.Second,
		"1 minute": time.Minute, "2 minutes": 2 * time.Minute, "1 hour": time.Hour, "1 day": 24 * time.Hour, " 5  seconds": 5 * time.Second,
		"250ms": 250 * time.Millisecond, "1m30s": 90 * time.Second,
	} {
		db := fromMap(t, map[string]string{"url": "redis://10.0.0.1", "socket_timeout": text})
		if got := db.Unwrap().(*redis.Client).Options().ReadTimeout; got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

func TestTheTimeoutOfAMapStandsInForTheOthers(t *testing.T) {
	db := fromMap(t, map[string]string{"url": "redis://10.0.0.1", "timeout": "3 seconds"})
	if o := db.Unwrap().(*redis.Client).Options(); o.ReadTimeout != 3*time.Second || o.WriteTimeout != 3*time.Second {
		t.Errorf("ReadTimeout is %s, WriteTimeout %s, want 3s", o.ReadTimeout, o.WriteTimeout)
	}
	db = fromMap(t, map[string]string{"url": "redis://10.0.0.1?write_timeout=9s", "timeout": "3 seconds", "socket_timeout": "1 second"})
	if o := db.Unwrap().(*redis.Client).Options(); o.ReadTimeout != time.Second || o.WriteTimeout != 9*time.Second {
		t.Errorf("ReadTimeout is %s, WriteTimeout %s, want 1s of the map and 9s of the URL", o.ReadTimeout, o.WriteTimeout)
	}
	var seen pooler.Config
	config := driver.WithConfig(driver.Config{NewPooler: func(n pooler.Node, c pooler.Config) (pooler.Pooler, error) {
		seen = c
		return pooler.New(n, c)
	}})
	server := miniredis.RunT(t)
	for _, c := range []struct {
		m          map[string]string
		wait, dial time.Duration
	}{
		{map[string]string{"timeout": "3 seconds"}, 3 * time.Second, 3 * time.Second},
		{map[string]string{"timeout": "3 seconds", "socket_connect_timeout": "200 milliseconds"}, 3 * time.Second, 200 * time.Millisecond},
		{map[string]string{"socket_connect_timeout": "200 milliseconds"}, 0, 200 * time.Millisecond},
		{map[string]string{"socket_timeout": "200 milliseconds", "max_connections": "7", "max_connections_per_node": "True"}, 0, 0},
	} {
		c.m["url"] = "redis://" + server.Addr()
		db := fromMap(t, c.m, config)
		if err := db.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if dial := seen.DialTimeout; seen.WaitTimeout != c.wait || dial != c.dial && (c.dial != 0 || dial != 5*time.Second) {
			t.Errorf("%v: WaitTimeout is %s, DialTimeout %s", c.m, seen.WaitTimeout, dial)
		}
	}
	if seen.MaxOpenConns != 7 {
		t.Errorf("MaxOpenConns is %d, want 7", seen.MaxOpenConns)
	}
}

// max_connections is of all nodes together, unless max_connections_per_node says of each.
func TestMaxConnectionsOfAMapAreOfAllNodes(t *testing.T) {
	server := miniredis.RunT(t)
	for perNode, want := range map[string]bool{"": true, "false": true, "true": false} {
		var together bool
		config := driver.WithConfig(driver.Config{NewPooler: func(n pooler.Node, c pooler.Config) (pooler.Pooler, error) {
			together = n.Budget != nil
			return pooler.New(n, c)
		}})
		db := fromMap(t, map[string]string{"url": "redis://" + server.Addr(), "max_connections_per_node": perNode}, config)
		if err := db.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if s := db.Driver.Nodes()[0].Stats; together != want || s.MaxOpenConnections != 50 {
			t.Errorf("max_connections_per_node=%s: together is %v, want %v; %d connections of the node", perNode, together, want, s.MaxOpenConnections)
		}
	}
}

func TestReadsOfAMapStayWithMastersWhereItSaysSo(t *testing.T) {
	for name, m := range map[string]map[string]string{
		"map": {"url": "redis://10.0.0.1:1?cluster=true", "read_from_replicas": "False"},
		"URL": {"url": "redis://10.0.0.1:1?cluster=true&read_from_replicas=false"},
	} {
		if o := fromMap(t, m).Unwrap().(*redis.ClusterClient).Options(); o.RouteRandomly || o.ReadOnly {
			t.Errorf("%s: reads go to replicas", name)
		}
	}
	if got := kindOf(fromMap(t, map[string]string{"url": "redis://10.0.0.1?master_name=m"})); got != "node" {
		t.Errorf("by default sentinels' client is a %s", got)
	}
	if got := kindOf(fromMap(t, map[string]string{"url": "redis://10.0.0.1?master_name=m", "read_from_replicas": "true"})); got != "cluster of [], random, read only" {
		t.Errorf("with read_from_replicas sentinels' client is a %s", got)
	}
}

// Values as files have them: with white space around them, and between the two words of a
// timespan.
func TestWhiteSpaceAroundTheValuesOfAMap(t *testing.T) {
	db := fromMap(t, map[string]string{
		"url": " redis://10.0.0.1?cluster=true\n", "max_connections": " 7 ", "max_connections_per_node": "\ttrue", "read_from_replicas": "false ",
		"socket_timeout": "250ms ", "timeout": "200\tmilliseconds", "track_key_reads_sample_rate": " 0 ", "decode_responses": "  ",
	})
	if o := db.Unwrap().(*redis.ClusterClient).Options(); o.ReadTimeout != 250*time.Millisecond || o.RouteRandomly {
		t.Errorf("ReadTimeout is %s, RouteRandomly %v", o.ReadTimeout, o.RouteRandomly)
	}
}

func TestKeysOfAMapWithoutEffectAreLogged(t *testing.T) {
	var log bytes.Buffer
	fromMap(t, map[string]string{
		"url": "redis://:hunter2@10.0.0.1", "skip_full_coverage_check": "true", "nodemanager_follow_cluster": "false", "decode_responses": "true", "read_from_replicas": "true",
	}, driver.WithConfig(driver.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	for _, key := range []string{"skip_full_coverage_check", "nodemanager_follow_cluster", "decode_responses", "read_from_replicas"} {
		if strings.Count(log.String(), "key=rediscluster."+key) != 1 {
			t.Errorf("not one line of %s in:\n%s", key, &log)
		}
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Error("the log shows the password")
	}
}

func TestAMapNamesAllThatIsWrongAndNoPassword(t *testing.T) {
	for name, c := range map[string]struct {
		prefix string
		m      map[string]string
		want   []string
	}{
		"prefix":    {"rediscluster", map[string]string{"rediscluster.url": "redis://:hunter2@x"}, []string{`"rediscluster"`, "dot"}},
		"no prefix": {"", map[string]string{"url": "redis://:hunter2@x"}, []string{`""`, "dot"}},
		"no URL":    {"r.", map[string]string{"other.url": "redis://:hunter2@x"}, []string{"r.url is missing"}},
		"all": {"r.", map[string]string{
			"r.url": "redis://:hunter2@x", "r.max_conections": "3", "r.max_connections": "0", "r.max_connections_per_node": "5", "r.timeout": "3",
			"r.socket_timeout": "3 fortnights", "r.socket_connect_timeout": "0 seconds", "r.read_from_replicas": "random", "r.decode_responses": "utf8",
			"r.track_key_reads_sample_rate": "2", "r.track_key_writes_sample_rate": "NaN",
		}, []string{
			"r.max_conections is unknown", "decode_responses, max_connections, ", `r.max_connections is "0"; allowed are whole numbers from 1`,
			`r.max_connections_per_node is "5"; allowed are true and false`, `r.timeout is "3"`, "200 milliseconds", `r.socket_timeout is "3 fortnights"`,
			`r.socket_connect_timeout is "0 seconds"`, `r.read_from_replicas is "random"`, `r.decode_responses is "utf8"`,
			`r.track_key_reads_sample_rate is "2"`, "1e-9", `r.track_key_writes_sample_rate is "NaN"`,
		}},
		"overflow":  {"r.", map[string]string{"r.url": "redis://:hunter2@x", "r.timeout": "999999999999 days"}, []string{"r.timeout"}},
		"underflow": {"r.", map[string]string{"r.url": "redis://:hunter2@x", "r.timeout": "-99999999999999999 days"}, []string{"r.timeout"}},
		"keys mixed up": {
			"r.",
			map[string]string{"r.timeout": "redis://:hunter2@x:6379", "r.max_connections": "user:hunter2@x:6379"},
			[]string{`r.timeout is "x:6379"`, `r.max_connections is "x:6379"`, "r.url is missing"},
		},
		"a URL for a key":    {"r.", map[string]string{"r.redis://:hunter2@x:6379": "true"}, []string{"r.x:6379 is unknown", "r.url is missing"}},
		"a URL for a prefix": {"redis://:hunter2@x:6379", nil, []string{`"x:6379"`, "dot"}},
	} {
		t.Run(name, func(t *testing.T) {
			url, opts, err := driver.ConfigFromMap(c.prefix, c.m)
			if url != "" || opts != nil || !errors.Is(err, pooler.ErrConfig) || strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("got %q, %v, %v; want an ErrConfig alone, without the password", url, opts, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q doesn't say %q", err, want)
				}
			}
		})
	}
}

func TestOptionsOfAMapShowNoPassword(t *testing.T) {
	url, opts, err := driver.ConfigFromMap("r.", map[string]string{"r.url": "redis://:hunter2@x"})
	if err != nil || url != "redis://:hunter2@x" {
		t.Fatalf("got %q, %v", url, err)
	}
	if shown := fmt.Sprintf("%v %+v %#v", opts[0], opts[0], opts[0]); strings.Contains(shown, "hunter2") {
		t.Errorf("an option shows the password: %s", shown)
	}
}

func TestAMapHasHotKeysTracked(t *testing.T) {
	server := miniredis.RunT(t)
	url, opts, err := driver.ConfigFromMap("r.", map[string]string{"r.url": "redis://" + server.Addr(), "r.track_key_reads_sample_rate": "1"})
	if err != nil {
		t.Fatal(err)
	}
	db, err := driver.Open(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		db.Get(t.Context(), "hot")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := server.ZScore(hotkey.BaseplateReadsKey, "hot"); n != 3 || err != nil {
		t.Errorf("the key counts %v, %v; want 3", n, err)
	}
}

func TestAMapAsksForThePackageThatTracksHotKeys(t *testing.T) {
	option := tracking.Option
	defer func() { tracking.Option = option }()
	tracking.Option = nil
	m := map[string]string{"r.url": "redis://10.0.0.1", "r.track_key_writes_sample_rate": "0"}
	if _, _, err := driver.ConfigFromMap("r.", m); err != nil {
		t.Errorf("with a rate of 0: %v", err)
	}
	m["r.track_key_writes_sample_rate"] = "0.01"
	if _, _, err := driver.ConfigFromMap("r.", m); !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), "everpool/hotkey") {
		t.Errorf("got %v; want an error that names the package", err)
	}
}
