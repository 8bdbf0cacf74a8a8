package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// servers are what both drivers talk to.
type servers interface {
	about() string
	addrs() []string                  // of all servers, which clients may dial
	options() *redis.UniversalOptions // for clients; addresses only
	// admin opens a client that asks the servers past all faults.
	admin(ctx context.Context) (redis.UniversalClient, error)
	can(kind faultKind) bool
	// kill kills a server, and returns its address and how to start it again. Where
	// replicas succeed it, it keeps clients from the server with cut before that.
	kill(ctx context.Context, cut func(addr string, on bool)) (addr string, revive func(context.Context) error, err error)
	// failover has a replica take over. With cut it keeps clients from a server meanwhile.
	failover(ctx context.Context, cut func(addr string, on bool)) error
	close()
}

// startServers starts what the settings ask for.
func startServers(ctx context.Context, s settings) (servers, error) {
	kind := testkit.Kind(s.server)
	if s.server == serverAuto {
		kind = installed()
	}
	start := startSingle
	switch {
	case kind == serverEmbedded && s.topology != "":
		return nil, fmt.Errorf("-%s needs redis-server or valkey-server: there is no embedded one", s.topology)
	case kind == serverEmbedded:
		return startEmbedded()
	case s.topology == topologyCluster:
		start = startCluster
	case s.topology == topologySentinel:
		start = startGroup
	}
	top, err := start(ctx, kind)
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("-server is %s: %s-server isn't installed; -server %s needs nothing", kind, kind, serverEmbedded)
	}
	return top, err
}

// installed is the server program that there is, or else the embedded server.
func installed() testkit.Kind {
	for _, kind := range testkit.Kinds {
		if _, err := exec.LookPath(string(kind) + "-server"); err == nil {
			return kind
		}
	}
	return serverEmbedded
}

// safe are a server's settings by which it has written what it acknowledges: to the
// file, not to the disk, which is enough for a process that is killed.
var safe = testkit.WithConfig("appendonly yes", "appendfsync no", "tcp-backlog 4096", "maxclients 10000")

// single is one server process.
type single struct{ *testkit.Server }

func startSingle(ctx context.Context, kind testkit.Kind) (servers, error) {
	s, err := testkit.StartServer(ctx, kind, safe)
	return &single{s}, err
}

func (s *single) about() string   { return string(s.Kind) + "-server at " + s.Addr }
func (s *single) addrs() []string { return []string{s.Addr} }
func (s *single) options() *redis.UniversalOptions {
	return &redis.UniversalOptions{Addrs: s.addrs()}
}

func (s *single) admin(context.Context) (redis.UniversalClient, error) {
	return redis.NewUniversalClient(s.options()), nil
}

func (s *single) can(kind faultKind) bool { return kind != faultFailover }

func (s *single) failover(context.Context, func(string, bool)) error { return errors.ErrUnsupported }
func (s *single) close()                                             { s.Close() }

func (s *single) kill(context.Context, func(string, bool)) (string, func(context.Context) error, error) {
	s.Kill()
	return s.Addr, s.RestartContext, nil
}

// embedded is a server within this process.
type embedded struct {
	server *miniredis.Miniredis
	addr   string
}

func startEmbedded() (servers, error) {
	s := miniredis.NewMiniRedis()
	if err := s.Start(); err != nil {
		return nil, fmt.Errorf("starting the embedded server: %w", err)
	}
	return &embedded{s, s.Addr()}, nil
}

func (e *embedded) about() string   { return "an embedded server (miniredis) at " + e.addr }
func (e *embedded) addrs() []string { return []string{e.addr} }
func (e *embedded) options() *redis.UniversalOptions {
	return &redis.UniversalOptions{Addrs: e.addrs()}
}

func (e *embedded) admin(context.Context) (redis.UniversalClient, error) {
	return redis.NewUniversalClient(e.options()), nil
}

func (e *embedded) can(kind faultKind) bool { return kind != faultFailover }

func (e *embedded) failover(context.Context, func(string, bool)) error { return errors.ErrUnsupported }
func (e *embedded) close()                                             { e.server.Close() }

func (e *embedded) kill(context.Context, func(string, bool)) (string, func(context.Context) error, error) {
	e.server.Close()
	return e.addr, func(context.Context) error { return e.server.Restart() }, nil
}
