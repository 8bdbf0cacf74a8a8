package conformance

import "testing"

// skip says that a server or a topology can't do what a guarantee is about.
type skip struct {
	server   string   // as in Target; "": any
	topology Topology // as in Target; "": any
	protocol int      // 0: both
	name     string   // of the guarantee
	reason   string
}

const (
	onlyRESP3 = "client-side caching needs RESP3's push messages"
	noACL     = "miniredis has no ACL command"
	noClient  = "miniredis has of CLIENT only SETNAME and GETNAME"
	noConfig  = "miniredis has no CONFIG"
	endlessDB = "miniredis has as many databases as anybody asks for"

	oneDB          = "a cluster has one database"
	noCache        = "only a node's client has a client-side cache"
	noLimiter      = "go-redis has no Limiter here"
	noAutoPipeline = "go-redis has no AutoPipeline on rings"
	anyShard       = "a command without a key goes to any node"
	seedsOnConnect = "OnConnect is called on connections to sentinels, too, which have no databases"
	onceClosed     = "go-redis says it of a node's client only"
	nextSeed       = "go-redis asks the next node or sentinel if OnConnect fails on one"
)

// skips is the whole list: nothing else in the suite is skipped.
var skips = []skip{
	{protocol: 2, name: "the client-side cache answers and sees another client's write", reason: onlyRESP3},
	{protocol: 2, name: "the client-side cache keeps a missing key until it is there", reason: onlyRESP3},
	{protocol: 2, name: "invalidations don't disturb replies", reason: onlyRESP3},
	{protocol: 2, name: "a connection that dies takes its cached values with it", reason: onlyRESP3},

	{server: "redis", name: "the library's name and version are what the server lists", reason: "CLIENT SETINFO came with Redis 7.2"},

	{server: "miniredis", name: "the client-side cache answers and sees another client's write", reason: noClient},
	{server: "miniredis", name: "the client-side cache keeps a missing key until it is there", reason: noClient},
	{server: "miniredis", name: "invalidations don't disturb replies", reason: noClient},
	{server: "miniredis", name: "a connection that dies takes its cached values with it", reason: noClient},

	{server: "miniredis", name: "a user's password opens the server", reason: noACL},
	{server: "miniredis", name: "a wrong password is the server's WRONGPASS, every time", reason: noACL},
	{server: "miniredis", name: "clients with different users never share a connection", reason: noACL},
	{server: "miniredis", name: "NOPERM is the command's error and the connection goes on", reason: noACL},
	{server: "miniredis", name: "AUTH on a Conn changes the user there and nowhere else", reason: noACL},
	{server: "miniredis", name: "credentials that a provider rotates are used after a kill", reason: noACL},
	{server: "miniredis", name: "a password changed without the client knowing fails new connections only", reason: noACL},
	{server: "miniredis", name: "a subscription authenticates as its client does", reason: noACL},

	{server: "miniredis", name: "a pipeline on a Conn stays on its connection", reason: noClient},
	{server: "miniredis", name: "CLIENT ID is one within a Conn and another in another", reason: noClient},
	{server: "miniredis", name: "ClientName is what the server lists", reason: noClient},
	{server: "miniredis", name: "the library's name and version are what the server lists", reason: noClient},
	{server: "miniredis", name: "a subscription whose connection is killed subscribes again", reason: noClient},
	{server: "miniredis", name: "a value pushed after a timed-out pop is not lost to it", reason: noClient},
	{server: "miniredis", name: "writes that a paused server holds back time out and shift no later reply", reason: noClient},
	{server: "miniredis", name: "a pipeline that a paused server holds back times out and shifts no later reply", reason: noClient},
	{server: "miniredis", name: "a killed connection costs the next command a retry, no error", reason: noClient},
	{server: "miniredis", name: "CLIENT UNBLOCK ends a blocked command", reason: noClient},

	{server: "miniredis", name: "a SELECT that fails changes nothing", reason: endlessDB},
	{server: "miniredis", name: "a DB that doesn't exist is an error, not database 0", reason: endlessDB},
	{server: "miniredis", name: "commands of two words work in any case", reason: noConfig},
	{server: "miniredis", name: "RESP2 and RESP3 give the same values of server commands", reason: noConfig},
	{server: "miniredis", name: "RESP3's own types arrive as Go values", reason: "miniredis's Lua has no RESP3 types"},
	{server: "miniredis", name: "SCRIPT KILL gets past a running script", reason: "miniredis has no SCRIPT KILL"},
	{server: "miniredis", name: "RESET on a Conn ends its state and only its", reason: "miniredis has no RESET"},
	{server: "miniredis", name: "SSubscribe delivers on shard channels", reason: "miniredis has no SSUBSCRIBE"},
	{server: "miniredis", name: "functions are loaded, called and deleted", reason: "miniredis has no FUNCTION"},
	{server: "miniredis", name: "SORT orders, limits and stores", reason: "miniredis has no SORT"},
	{server: "miniredis", name: "SORT looks values up", reason: "miniredis has no SORT"},
	{server: "miniredis", name: "OBJECT tells how a value is kept", reason: "miniredis has of OBJECT only IDLETIME"},
	{server: "miniredis", name: "a Conn that monitors disturbs nobody else", reason: "miniredis has no MONITOR"},

	{topology: Cluster, name: "SELECT on a Conn holds there and nowhere else", reason: oneDB},
	{topology: Cluster, name: "Conns side by side keep their own state", reason: oneDB},
	{topology: Cluster, name: "the DB option isolates", reason: oneDB},
	{topology: Cluster, name: "a DB that doesn't exist is an error, not database 0", reason: oneDB},
	{topology: Cluster, name: "OnConnect runs commands before anybody else does", reason: oneDB},

	{topology: Cluster, name: "the client-side cache answers and sees another client's write", reason: noCache},
	{topology: Cluster, name: "the client-side cache keeps a missing key until it is there", reason: noCache},
	{topology: Cluster, name: "invalidations don't disturb replies", reason: noCache},
	{topology: Cluster, name: "a connection that dies takes its cached values with it", reason: noCache},
	{topology: Failover, name: "the client-side cache answers and sees another client's write", reason: noCache},
	{topology: Failover, name: "the client-side cache keeps a missing key until it is there", reason: noCache},
	{topology: Failover, name: "invalidations don't disturb replies", reason: noCache},
	{topology: Failover, name: "a connection that dies takes its cached values with it", reason: noCache},
	{topology: FailoverCluster, name: "the client-side cache answers and sees another client's write", reason: noCache},
	{topology: FailoverCluster, name: "the client-side cache keeps a missing key until it is there", reason: noCache},
	{topology: FailoverCluster, name: "invalidations don't disturb replies", reason: noCache},
	{topology: FailoverCluster, name: "a connection that dies takes its cached values with it", reason: noCache},
	{topology: Ring, name: "the client-side cache answers and sees another client's write", reason: noCache},
	{topology: Ring, name: "the client-side cache keeps a missing key until it is there", reason: noCache},
	{topology: Ring, name: "invalidations don't disturb replies", reason: noCache},
	{topology: Ring, name: "a connection that dies takes its cached values with it", reason: noCache},

	{topology: Cluster, name: "a Limiter is asked before and told after each command", reason: noLimiter},
	{topology: Failover, name: "a Limiter is asked before and told after each command", reason: noLimiter},
	{topology: FailoverCluster, name: "a Limiter is asked before and told after each command", reason: noLimiter},

	{topology: Failover, name: "OnConnect runs commands before anybody else does", reason: seedsOnConnect},
	{topology: FailoverCluster, name: "OnConnect runs commands before anybody else does", reason: seedsOnConnect},

	{topology: Cluster, name: "OnConnect's error once doesn't poison the client", reason: nextSeed},
	{topology: Failover, name: "OnConnect's error once doesn't poison the client", reason: nextSeed},
	{topology: FailoverCluster, name: "OnConnect's error once doesn't poison the client", reason: nextSeed},

	{topology: Cluster, name: "MULTI and EXEC inside a plain pipeline are a transaction", reason: anyShard},
	{topology: Ring, name: "MULTI and EXEC inside a plain pipeline are a transaction", reason: anyShard},

	{topology: Ring, name: "AutoPipeline gives each caller its own reply", reason: noAutoPipeline},
	{topology: Ring, name: "AsyncAutoPipeline keeps a caller's order", reason: noAutoPipeline},

	{topology: Ring, name: "SCRIPT LOAD is seen by every connection", reason: anyShard},

	{topology: Ring, name: "a pool whose connections are all held answers ErrPoolTimeout", reason: "a ring's heartbeat needs the connection now and then"},

	{topology: Cluster, name: "a client that is closed again says that it is", reason: onceClosed},
	{topology: FailoverCluster, name: "a client that is closed again says that it is", reason: onceClosed},
	{topology: Ring, name: "a client that is closed again says that it is", reason: onceClosed},

	{topology: Cluster, name: "a closed client watches nothing", reason: "go-redis looks for the node again, and its last error is none"},
	{topology: FailoverCluster, name: "a closed client watches nothing", reason: "go-redis looks for the node again, and its last error is none"},

	{server: "redis", topology: Cluster, name: "SORT looks values up", reason: "a cluster of Redis 7.0 refuses GET"},

	{topology: Cluster, name: "PoolStats count what the client uses", reason: "a cluster client asks for the nodes to count theirs"},
	{topology: Ring, name: "PoolStats count what the client uses", reason: "a ring's heartbeat dials before the first command"},

	{topology: Ring, name: "options are readable and limits on idle connections harmless", reason: "it is the ring that retries, not the shards' clients"},
}

// skipReason returns the reason why a guarantee is skipped, if it is.
func skipReason(target Target, protocol int, name string) (string, bool) {
	for _, s := range skips {
		if (s.server == target.Server || s.server == "") && (s.topology == target.Topology || s.topology == "") &&
			(s.protocol == protocol || s.protocol == 0) && s.name == name {
			return s.reason, true
		}
	}
	return "", false
}

// checkSkips ends the test if a skip names no guarantee: it would rot there.
func checkSkips(t *testing.T, all []guarantee) {
	t.Helper()
	known := map[string]bool{}
	for _, g := range all {
		if known[g.name] {
			t.Errorf("two guarantees are named %q", g.name)
		}
		known[g.name] = true
	}
	for _, s := range skips {
		if !known[s.name] {
			t.Errorf("skips.go names %q, which is no guarantee", s.name)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}
