package doctor

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// checkServer finds out what kind of server it is, and whether the URL suits that.
func checkServer(ctx context.Context, k *known) []Finding {
	text, err := k.ask(ctx, "INFO").Text()
	if err != nil {
		text = ""
	}
	k.node.info = fields(text)
	hello := k.hello(ctx)
	if err != nil && len(hello) == 0 {
		return []Finding{found(Note, "kind and version aren't known: %s", k.say(err)).advise("for more, run this as a user with +info")}
	}
	kind, version := k.software(hello)
	mode, role := orElse(k.node.info["redis_mode"], hello["mode"]), orElse(k.node.info["role"], hello["role"])
	if role == "slave" {
		role = "replica"
	}
	all := []Finding{found(OK, "%s %s, mode %s, role %s, protocol RESP%s",
		k.clean(kind), k.clean(version), k.clean(mode), k.clean(role), k.clean(orElse(hello["proto"], "2")))}
	if major, _, _ := strings.Cut(version, "."); kind == "Redis" && len(major) == 1 && major < "6" {
		all = append(all, found(Warning, "this version has no ACLs and no HELLO").advise("it works with RESP2; plan an upgrade"))
	}
	return append(append(all, k.misfit(mode)...), k.roleFindings(role)...)
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// hello is what the server says of itself to everybody, but before Redis 6.
func (k *known) hello(ctx context.Context) map[string]string {
	said := map[string]string{}
	switch reply, _ := k.ask(ctx, "HELLO").Result(); reply := reply.(type) {
	case map[any]any:
		for name, value := range reply {
			said[fmt.Sprint(name)] = fmt.Sprint(value)
		}
	case []any:
		for i := 0; i+1 < len(reply); i += 2 {
			said[fmt.Sprint(reply[i])] = fmt.Sprint(reply[i+1])
		}
	}
	return said
}

func (k *known) software(hello map[string]string) (kind, version string) {
	if v := k.node.info["valkey_version"]; v != "" {
		return "Valkey", v
	}
	if hello["server"] == "valkey" {
		return "Valkey", hello["version"]
	}
	return "Redis", orElse(k.node.info["redis_version"], hello["version"])
}

// misfit finds a URL that is for another kind of server.
func (k *known) misfit(mode string) []Finding {
	switch t := k.target; {
	case mode == "sentinel":
		return []Finding{found(Failed, "this is a sentinel, which has no data").
			advise("add master_name to the URL, ?master_name=main, with the name that the sentinels have for the master")}
	case mode == "cluster" && t.single != nil:
		return []Finding{found(Warning, "this is a node of a cluster, and the URL is one for a single server: keys of other nodes fail with MOVED").
			advise("add ?cluster=true to the URL")}
	case mode == "standalone" && t.cluster != nil:
		return []Finding{found(Failed, "the URL is one for a cluster, and this is no node of one").
			advise("take cluster=true and addr out of the URL, or set cluster-enabled on the server")}
	}
	return nil
}

func (k *known) roleFindings(role string) (all []Finding) {
	if role == "replica" {
		switch t := k.target; {
		case t.failover != nil:
			all = append(all, found(Failed, "the sentinels name a replica as master").advise("a failover may be under way: try again; else compare SENTINEL MASTER with ROLE on the nodes"))
		case t.single != nil:
			all = append(all, found(Warning, "this is a replica: writes fail with READONLY").advise("name the master in the URL, or let sentinels (master_name) or a cluster find it"))
		}
	}
	if status := k.node.info["master_link_status"]; status != "" && status != "up" {
		all = append(all, found(Warning, "the replica's link to its master is %s: its data is old", k.clean(status)).advise("see INFO replication, and the logs of both"))
	}
	return all
}

// clientsHigh is the share of maxclients from which on it is a warning.
const clientsHigh = 0.8

// checkClients compares connected clients with how many there may be.
func checkClients(ctx context.Context, k *known) []Finding {
	connected, known := k.number("connected_clients")
	limit, limited := k.maxClients(ctx)
	switch {
	case !known && !limited:
		return []Finding{found(Note, "connected clients and maxclients aren't known").advise("for more, run this as a user with +info and +config|get")}
	case !known:
		return []Finding{found(Note, "maxclients is %d; how many are connected isn't known", limit).advise("for more, run this as a user with +info")}
	case !limited:
		return []Finding{found(Note, "%d clients are connected; maxclients isn't known", connected).advise("for more, run this as a user with +config|get")}
	}
	f := found(OK, "%d of %d clients (maxclients) are connected", connected, limit)
	if float64(connected) >= clientsHigh*float64(limit) {
		f.Status = Warning
		f = f.advise("raise maxclients, or have programs open fewer connections (max_open_conns): beyond it new connections are refused")
	}
	return []Finding{f}
}

func (k *known) number(name string) (int, bool) {
	n, err := strconv.Atoi(k.node.info[name])
	return n, err == nil
}

func (k *known) maxClients(ctx context.Context) (int, bool) {
	if n, ok := k.number("maxclients"); ok {
		return n, true
	}
	value, err := k.setting(ctx, "maxclients")
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(value)
	return n, err == nil
}

// setting asks for one of the server's own.
func (k *known) setting(ctx context.Context, name string) (string, error) {
	ctx, cancel := k.bounded(ctx)
	defer cancel()
	values, err := k.node.rdb.ConfigGet(ctx, name).Result()
	if err == nil && values[name] == "" {
		err = fmt.Errorf("the server has no %s", name)
	}
	return values[name], err
}

// settings are those that bear upon connections.
var settings = []struct {
	name  string
	judge func(k *known, value string) Finding
}{
	{"timeout", judgeTimeout},
	{"tcp-keepalive", judgeKeepAlive},
	{"client-output-buffer-limit", judgeBuffers},
}

// checkSettings looks at the server's settings.
func checkSettings(ctx context.Context, k *known) (all []Finding) {
	for _, s := range settings {
		value, err := k.setting(ctx, s.name)
		if err != nil {
			all = append(all, found(Note, "%s isn't known: %s", s.name, k.say(err)).advise("for more, run this as a user with +config|get"))
			continue
		}
		all = append(all, s.judge(k, value))
	}
	return all
}

func judgeTimeout(k *known, value string) Finding {
	seconds, err := strconv.Atoi(value)
	idle := k.target.idleTime()
	switch closes := time.Duration(seconds) * time.Second; {
	case err != nil:
		return found(Note, "timeout is %s", k.clean(value))
	case seconds == 0:
		return found(OK, "timeout is 0: the server closes no idle connection")
	case idle <= 0 || idle >= closes:
		return found(Warning, "timeout is %s: the server closes idle connections before the pool does (%s)", closes, orOff(idle)).
			advise(fmt.Sprintf("set conn_max_idle_time=%s or less in the URL: closing before the server does loses no request", closes*3/4))
	default:
		return found(OK, "timeout is %s; the pool closes idle connections before, after %s", closes, idle)
	}
}

func judgeKeepAlive(k *known, value string) Finding {
	if value == "0" {
		return found(Warning, "tcp-keepalive is 0: the server keeps connections of clients that have vanished").advise("CONFIG SET tcp-keepalive 300 on the server")
	}
	return found(OK, "tcp-keepalive is %s s: the server notices clients that have vanished", k.clean(value))
}

func judgeBuffers(k *known, value string) Finding {
	words := strings.Fields(value)
	for i := 0; i+3 < len(words); i += 4 {
		if words[i] != "normal" {
			continue
		}
		limits := strings.Join(words[i+1:i+4], " ")
		if words[i+1] == "0" && words[i+2] == "0" {
			return found(OK, "client-output-buffer-limit normal is %s: no reply is too large for the server", k.clean(limits))
		}
		return found(Warning, "client-output-buffer-limit normal is %s (bytes, bytes for seconds): a larger reply ends its connection, for all requests on it", k.clean(limits)).
			advise("CONFIG SET client-output-buffer-limit \"normal 0 0 0\" on the server, or ask for less at a time (SCAN, ranges)")
	}
	return found(Note, "client-output-buffer-limit is %s", k.clean(value))
}
