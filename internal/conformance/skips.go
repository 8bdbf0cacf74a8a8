package conformance

import "testing"

// skip says that a server can't do what a guarantee is about.
type skip struct {
	server   string // as in Target; "": any
	protocol int    // 0: both
	name     string // of the guarantee
	reason   string
}

const (
	onlyRESP3 = "client-side caching needs RESP3's push messages"
	noACL     = "miniredis has no ACL command"
	noClient  = "miniredis has of CLIENT only SETNAME and GETNAME"
	noConfig  = "miniredis has no CONFIG"
	endlessDB = "miniredis has as many databases as anybody asks for"
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
	{server: "miniredis", name: "SORT orders, limits and looks up", reason: "miniredis has no SORT"},
	{server: "miniredis", name: "OBJECT tells how a value is kept", reason: "miniredis has of OBJECT only IDLETIME"},
	{server: "miniredis", name: "a Conn that monitors disturbs nobody else", reason: "miniredis has no MONITOR"},
}

// skipReason returns the reason why a guarantee is skipped, if it is.
func skipReason(server string, protocol int, name string) (string, bool) {
	for _, s := range skips {
		if (s.server == server || s.server == "") && (s.protocol == protocol || s.protocol == 0) && s.name == name {
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
