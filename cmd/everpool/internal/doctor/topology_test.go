package doctor_test

import (
	"strings"
	"testing"

	"github.com/everpool/everpool/cmd/everpool/internal/doctor"
	"github.com/everpool/everpool/internal/testkit"
)

func TestAClusterIsLookedAtWithAllItsNodes(t *testing.T) {
	c := testkit.StartCluster(t, testkit.Redis, testkit.ClusterConfig{})
	gone := testkit.Start(t, testkit.Redis)
	gone.Kill()
	e := examine(t, "redis://"+gone.Addr+"?addr="+c.Addrs()[0])
	if !e.healthy {
		t.Errorf("one seed that is away is a failure:\n%s", e.text)
	}
	e.wants(t, doctor.Warning, "connect", gone.Addr+" can't be reached", "nothing listens")
	e.wants(t, doctor.OK, "cluster", "state ok", "")
	e.wants(t, doctor.OK, "cluster", "all 16384 slots", "")
	for _, n := range c.Nodes() {
		e.wants(t, doctor.OK, "cluster", n.Addr+" accepts connections", "")
	}
	e.wants(t, doctor.OK, "permissions", "CLUSTER SLOTS, READONLY", "")
	e.wants(t, doctor.OK, "everpool", "a PING through everpool is answered", "")

	examine(t, "redis://"+c.Addrs()[0]).wants(t, doctor.Warning, "server", "a node of a cluster", "?cluster=true")
}

func TestAnnouncedAddressesThatAreNoGoodHereAreTold(t *testing.T) {
	nowhere := testkit.Start(t, testkit.Redis)
	nowhere.Kill()
	_, port, _ := strings.Cut(nowhere.Addr, ":")
	s := testkit.Start(t, testkit.Redis, testkit.WithCluster(), testkit.WithConfig("cluster-announce-ip 127.0.0.1", "cluster-announce-port "+port))
	examine(t, "redis://"+s.Addr+"?cluster=true").wants(t, doctor.Failed, "cluster", "0 of 16384 slots", "redis-cli --cluster")

	if reply := s.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "16383"); reply != "OK" {
		t.Fatal(reply)
	}
	e := examine(t, "redis://"+s.Addr+"?cluster=true")
	e.wants(t, doctor.Failed, "cluster", "announced master: "+nowhere.Addr+" can't be reached", "driver.Config.MapAddr")
}

func TestAURLOfTheWrongKindIsTold(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	examine(t, "redis://"+s.Addr+"?cluster=true").wants(t, doctor.Failed, "server", "this is no node of one", "take cluster=true")
	examine(t, "redis://"+s.Addr+"?master_name=main").wants(t, doctor.Failed, "sentinels", "is no sentinel", "leave master_name out")
}

func TestAMasterThatSentinelsNameAndThatCantBeReachedIsTold(t *testing.T) {
	master := testkit.Start(t, testkit.Redis)
	sentinel := testkit.Start(t, testkit.Redis, testkit.WithSentinelOf("main", master, 2))
	master.Kill()
	e := examine(t, "redis://"+sentinel.Addr+"?master_name=main")
	e.wantsSteps(t, "url sentinels name connect")
	e.wants(t, doctor.Failed, "connect", master.Addr+" can't be reached", "driver.Config.MapAddr")
}

func TestSentinelsAreAskedForTheMasterThatIsLookedAt(t *testing.T) {
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{Replicas: 1})
	seeds := s.Addrs()
	e := examine(t, "redis://"+seeds[0]+"?addr="+seeds[1]+"&addr="+seeds[2]+"&master_name=main")
	for _, sentinel := range seeds {
		e.wants(t, doctor.OK, "sentinels", sentinel+" names the master "+s.Servers[0].Addr, "")
	}
	e.wants(t, doctor.OK, "connect", s.Servers[0].Addr+" accepts", "")
	e.wants(t, doctor.OK, "server", "role master", "")
	e.wants(t, doctor.OK, "everpool", "a PING through everpool is answered", "")

	s.Sentinels[0].Kill()
	e = examine(t, "redis://"+seeds[0]+"?addr="+seeds[1]+"&master_name=main")
	if !e.healthy {
		t.Errorf("one sentinel that is away is a failure:\n%s", e.text)
	}
	e.wants(t, doctor.Warning, "sentinels", seeds[0]+" can't be reached", "nothing listens")

	examine(t, "redis://"+seeds[1]+"?master_name=other").wants(t, doctor.Failed, "sentinels", `knows no master "other"`, "SENTINEL MASTERS")
	examine(t, "redis://"+seeds[1]).wants(t, doctor.Failed, "server", "this is a sentinel", "master_name")
}
