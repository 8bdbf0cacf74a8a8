package testkit_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// failoverClient is a client as go-redis makes it.
func failoverClient(t *testing.T, s *testkit.Sentinels) *redis.Client {
	t.Helper()
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: s.Name, SentinelAddrs: s.Addrs(), TLSConfig: s.TLSConfig(),
	})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

func TestSentinelsSwitchByThemselvesAndOnDemand(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		s := testkit.StartSentinels(t, kind, testkit.SentinelConfig{
			Name: "other", TLS: true, Extra: []string{"maxclients 333"},
		})
		rdb := failoverClient(t, s)
		if err := setAndGet(t, rdb); err != nil {
			t.Fatal(err)
		}
		killed := killMasterOf(t, s)
		awaitService(t, rdb)
		killed.Restart(t) // it takes itself for a master until after this test
		if got := s.Servers[2].Do(t, "CONFIG", "GET", "maxclients"); got != "maxclients\n333" {
			t.Fatal(got)
		}
		before := s.Master()
		if now := s.Failover(t); now == before || s.Server(now) == nil {
			t.Fatalf("%s is the master, was %s", now, before)
		}
		awaitService(t, rdb)
	})
}

func killMasterOf(t *testing.T, s *testkit.Sentinels) *testkit.Server {
	t.Helper()
	s.Sentinels[0].Freeze() // the others are a majority
	defer s.Sentinels[0].Thaw()
	master, killed := s.Server(s.Master()), time.Now()
	master.Kill()
	heir, told := s.AwaitMaster(t, master.Addr)
	if s.Server(heir) == nil || heir == master.Addr || told.Before(killed) {
		t.Fatalf("the heir of %s is %s, told %v after its death", master.Addr, heir, told.Sub(killed))
	}
	return master
}
