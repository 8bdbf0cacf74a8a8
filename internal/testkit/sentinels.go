package testkit

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// SentinelConfig says what [StartSentinels] starts; its zero value is a master
// with two replicas and three sentinels.
type SentinelConfig struct {
	Name            string        // of the master; "": "main"
	Replicas        int           // 0: two
	Sentinels       int           // 0: three; a majority of them makes the quorum
	DownAfter       time.Duration // of silence, until a sentinel calls a server down; 0: 1.5 s
	FailoverTimeout time.Duration // half of the time between two tries; 0: 2 s
	TLS             bool          // for servers and sentinels, with one CA
	Extra           []string      // lines of the configuration of the master and the replicas
}

func (cfg SentinelConfig) withDefaults() SentinelConfig {
	setDefault(&cfg.Name, "main")
	setDefault(&cfg.Replicas, 2)
	setDefault(&cfg.Sentinels, 3)
	setDefault(&cfg.DownAfter, 1500*time.Millisecond)
	setDefault(&cfg.FailoverTimeout, 2*time.Second)
	return cfg
}

func setDefault[T comparable](value *T, to T) {
	if *value == *new(T) {
		*value = to
	}
}

// Sentinels are a master, its replicas, and the sentinels that watch them. All
// of them are ordinary servers: kill, freeze and restart them as such. But a
// sentinel that was frozen for two seconds tells what it knows and takes no part
// in elections for half a minute.
type Sentinels struct {
	Name      string    // of the master, for redis.FailoverOptions
	Servers   []*Server // the first master, then its first replicas
	Sentinels []*Server
}

// StartSentinels starts a master, replicas and sentinels for one test, as
// [Start] starts a server, and returns when the replicas are synchronised and
// all sentinels know each other and them.
func StartSentinels(tb testing.TB, kind Kind, config SentinelConfig) *Sentinels {
	tb.Helper()
	cfg := config.withDefaults()
	opts := []ServerOption{WithConfig("repl-ping-replica-period 1")}
	sentinelOpts := []ServerOption{}
	if cfg.TLS {
		both := []ServerOption{withTLSFiles(sharedTLSFiles(tb)), WithConfig("tls-replication yes")}
		opts, sentinelOpts = append(opts, both...), append(sentinelOpts, both...)
	}
	opts = append(opts, WithConfig(cfg.Extra...))
	s := &Sentinels{Name: cfg.Name}
	s.startServers(tb, kind, cfg, opts)
	sentinelOpts = append(sentinelOpts, withSentinel(sentinelConfig{
		name: cfg.Name, master: s.Servers[0], quorum: cfg.Sentinels/2 + 1,
		downAfter: cfg.DownAfter, failoverTimeout: cfg.FailoverTimeout,
	}))
	s.Sentinels = startAll(tb, kind, repeat(sentinelOpts, cfg.Sentinels)...)
	s.AwaitSettled(tb)
	return s
}

func (s *Sentinels) startServers(tb testing.TB, kind Kind, cfg SentinelConfig, opts []ServerOption) {
	tb.Helper()
	master := Start(tb, kind, opts...)
	replicaOpts := append(slices.Clip(opts), WithReplicaOf(master))
	s.Servers = append([]*Server{master}, startAll(tb, kind, repeat(replicaOpts, cfg.Replicas)...)...)
	// Sentinels learn of replicas by asking the master, every 10 s: there had
	// better be something to learn when they ask for the first time.
	awaitSettled(tb, "all replicas are synchronised", s.unsynchronised)
}

func repeat[T any](value T, n int) []T {
	values := make([]T, n)
	for i := range values {
		values[i] = value
	}
	return values
}

// Addrs returns the addresses of the sentinels, for redis.FailoverOptions.
func (s *Sentinels) Addrs() []string { return addrsOf(s.Sentinels) }

func addrsOf(servers []*Server) []string {
	addrs := make([]string, len(servers))
	for i, s := range servers {
		addrs[i] = s.Addr
	}
	return addrs
}

// TLSConfig is [Server.TLSConfig] for all servers and sentinels.
func (s *Sentinels) TLSConfig() *tls.Config { return s.Servers[0].TLSConfig() }

// Server returns the master or replica with that address, nil if there is none.
func (s *Sentinels) Server(addr string) *Server { return serverAt(s.Servers, addr) }

// masterOf is the question for the master's address.
func (s *Sentinels) masterOf() string { return "SENTINEL GET-MASTER-ADDR-BY-NAME " + s.Name }

// joinedAddr is the answer to masterOf as an address, "" if it is none.
func joinedAddr(reply any) string {
	host, port, ok := strings.Cut(replyText(reply), "\n")
	if !ok {
		return ""
	}
	return net.JoinHostPort(host, port)
}

// Master returns the address of the master as most of the live sentinels tell
// it, "" if they are divided.
func (s *Sentinels) Master() string {
	live := liveOf(s.Sentinels)
	votes := map[string]int{}
	for _, sentinel := range live {
		if replies, err := sentinel.inquire(s.masterOf()); err == nil {
			votes[joinedAddr(replies[0])]++
		}
	}
	for addr, n := range votes {
		if n > len(live)/2 {
			return addr
		}
	}
	return ""
}

func liveOf(servers []*Server) []*Server {
	var live []*Server
	for _, s := range servers {
		if s.Live() {
			live = append(live, s)
		}
	}
	return live
}

// AwaitMaster asks all sentinels every 10 ms until one of them names a master
// that isn't notAddr, and returns that one's address and when it was first
// told.
func (s *Sentinels) AwaitMaster(tb testing.TB, notAddr string) (addr string, told time.Time) {
	tb.Helper()
	addr, told, err := s.AwaitMasterContext(context.Background(), notAddr)
	if err != nil {
		tb.Fatalf("testkit: no master but %s: %v", notAddr, err)
	}
	return addr, told
}

// AwaitMasterContext is [Sentinels.AwaitMaster] for goroutines that aren't the
// test's: it returns the failure.
func (s *Sentinels) AwaitMasterContext(ctx context.Context, notAddr string) (addr string, told time.Time, err error) {
	return firstToTell(ctx, s.Sentinels, s.masterOf(), func(reply any) string {
		if addr := joinedAddr(reply); addr != notAddr {
			return addr
		}
		return ""
	})
}

// Failover has the sentinels make a replica the master (SENTINEL FAILOVER), and
// returns its address when all live sentinels name it. The old master doesn't
// know yet: it takes writes for some more seconds, which are lost.
func (s *Sentinels) Failover(tb testing.TB) (addr string) {
	tb.Helper()
	var before string
	var by *Server // one alone: two would do it twice
	awaitSettled(tb, "the sentinels agree and one of them acts", func() (why string) {
		if by = s.acting(); by == nil {
			return "none acts"
		}
		before, why = s.agreed()
		return why
	})
	awaitSettled(tb, by.Addr+" switched from "+before, func() string { return s.failoverBy(by, before) })
	awaitSettled(tb, "the sentinels switched from "+before, func() (why string) {
		addr, why = s.agreed()
		if why == "" && addr == before {
			return "they still name it"
		}
		return why
	})
	return addr
}

// acting returns a sentinel that does what is asked of it, nil if there is none.
// One that stood still for two seconds doesn't for half a minute ("tilt").
func (s *Sentinels) acting() *Server {
	for _, sentinel := range liveOf(s.Sentinels) {
		replies, err := sentinel.inquire("INFO sentinel")
		if err == nil && infoFields(replies[0])["sentinel_tilt"] == "0" {
			return sentinel
		}
	}
	return nil
}

// agreed returns the master that all live sentinels name, or why there is none.
func (s *Sentinels) agreed() (addr, why string) {
	for _, sentinel := range liveOf(s.Sentinels) {
		replies, err := sentinel.inquire(s.masterOf())
		if err != nil {
			return "", sentinel.Addr + ": " + err.Error()
		}
		named := joinedAddr(replies[0])
		if addr != "" && named != addr {
			return "", fmt.Sprintf("they name %s and %s", addr, named)
		}
		addr = named
	}
	if addr == "" {
		return "", "no master is named"
	}
	return addr, ""
}

// failoverBy asks a sentinel for a failover unless it has made one, and says
// what is missing. It may refuse for a moment, and one that it has begun may
// come to nothing.
func (s *Sentinels) failoverBy(sentinel *Server, before string) string {
	replies, err := sentinel.inquire(s.masterOf())
	if err != nil {
		return err.Error()
	}
	if addr := joinedAddr(replies[0]); addr != before {
		return ""
	}
	if _, err = sentinel.inquire("SENTINEL FAILOVER " + s.Name); err != nil {
		return err.Error()
	}
	return "it has been asked for"
}

// AwaitSettled returns when all live sentinels name the same live master, know
// each other and all its live replicas, and these are synchronised with it.
// After a switch it takes some ten seconds until the old master is one of them.
func (s *Sentinels) AwaitSettled(tb testing.TB) {
	tb.Helper()
	awaitSettled(tb, "sentinels and replicas have settled", func() string {
		if why := s.unsynchronised(); why != "" {
			return why
		}
		for _, sentinel := range liveOf(s.Sentinels) {
			if why := s.unsettled(sentinel); why != "" {
				return "sentinel " + sentinel.Addr + ": " + why
			}
		}
		return ""
	})
}

// unsynchronised says what keeps the live servers from being one master and
// its synchronised replicas.
func (s *Sentinels) unsynchronised() string {
	masters := map[string]int{}
	for _, server := range liveOf(s.Servers) {
		replies, err := server.inquire("INFO replication")
		if err != nil {
			return server.Addr + ": " + err.Error()
		}
		info := infoFields(replies[0])
		switch {
		case info["role"] == "master":
			masters[server.Addr]++
		case info["master_link_status"] != "up":
			return server.Addr + " is not synchronised"
		default:
			masters[net.JoinHostPort(info["master_host"], info["master_port"])]++
		}
	}
	if len(masters) != 1 {
		return fmt.Sprintf("there are %d masters: %v", len(masters), masters)
	}
	return ""
}

// unsettled says what one sentinel doesn't know yet.
func (s *Sentinels) unsettled(sentinel *Server) string {
	replies, err := sentinel.inquire("SENTINEL MASTER "+s.Name, "SENTINEL REPLICAS "+s.Name, "SENTINEL SENTINELS "+s.Name)
	if err != nil {
		return err.Error()
	}
	master := pairs(replies[0])
	addr := net.JoinHostPort(master["ip"], master["port"])
	switch server := s.Server(addr); {
	case server == nil || !server.Live():
		return "its master " + addr + " isn't live"
	case master["flags"] != "master":
		return "its master is " + master["flags"]
	}
	if missing := stillUnknown(liveOf(s.Servers), addr, "slave", replies[1]); missing != "" {
		return missing
	}
	return stillUnknown(liveOf(s.Sentinels), sentinel.Addr, "sentinel", replies[2])
}

// stillUnknown says which of the servers, but one, a sentinel doesn't list with
// the flags of one that is well.
func stillUnknown(servers []*Server, but, flags string, list any) string {
	seen := map[string]string{}
	entries, _ := list.([]any)
	for _, e := range entries {
		entry := pairs(e)
		seen[net.JoinHostPort(entry["ip"], entry["port"])] = entry["flags"]
	}
	for _, s := range servers {
		if s.Addr != but && seen[s.Addr] != flags {
			return s.Addr + " is " + strconv.Quote(seen[s.Addr])
		}
	}
	return ""
}

// pairs are the fields of an entry in a sentinel's replies.
func pairs(entry any) map[string]string {
	fields := map[string]string{}
	list, _ := entry.([]any)
	for i := 0; i+1 < len(list); i += 2 {
		fields[replyText(list[i])] = replyText(list[i+1])
	}
	return fields
}
