package testkit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// serverConfig is what the options say; a restart uses it again.
type serverConfig struct {
	args     []string
	lines    []string // of the configuration file, its last ones
	unix     bool
	tls      bool
	tlsFiles *tlsFiles // those of several servers; nil: the server's own
	password string
	users    []string // lines of the configuration file
	master   *Server
	cluster  bool
	busPort  int
	sentinel *sentinelConfig
}

type sentinelConfig struct {
	name            string
	master          *Server
	quorum          int
	downAfter       time.Duration
	failoverTimeout time.Duration
}

// ServerOption changes how [Start] starts a server.
type ServerOption func(*serverConfig)

// WithArgs adds arguments to the command line, such as "--appendonly", "yes".
// They override what the other options say.
func WithArgs(args ...string) ServerOption {
	return func(c *serverConfig) { c.args = append(c.args, args...) }
}

// WithConfig adds lines to the configuration file, such as "maxclients 10".
// They override what the other options say, but WithArgs; and as other lines
// of the file they are the server's own to change (CONFIG REWRITE).
func WithConfig(lines ...string) ServerOption {
	return func(c *serverConfig) { c.lines = append(c.lines, lines...) }
}

// WithUnixSocket makes the server listen on a unix socket only.
func WithUnixSocket() ServerOption { return func(c *serverConfig) { c.unix = true } }

// WithTLS makes the server speak TLS only, and demand a client certificate;
// see [Server.TLSConfig].
func WithTLS() ServerOption { return func(c *serverConfig) { c.tls = true } }

// withTLSFiles is [WithTLS] with certificates that several servers share, who
// are each other's clients too.
func withTLSFiles(files *tlsFiles) ServerOption {
	return func(c *serverConfig) { c.tls, c.tlsFiles = true, files }
}

// WithPassword sets requirepass.
func WithPassword(pw string) ServerOption {
	return func(c *serverConfig) { c.password = pw }
}

// WithUser adds an ACL user with a password and rules such as "~* +@all".
func WithUser(name, pw, rules string) ServerOption {
	return func(c *serverConfig) {
		c.users = append(c.users, fmt.Sprintf("user %s on %s %s", name, strconv.Quote(">"+pw), rules))
	}
}

// WithReplicaOf makes the server a replica of master, with its password and
// certificates. It may answer before the first synchronisation has ended.
func WithReplicaOf(master *Server) ServerOption {
	return func(c *serverConfig) { c.master = master }
}

// WithCluster switches cluster mode on; the node owns no slots yet.
func WithCluster() ServerOption { return func(c *serverConfig) { c.cluster = true } }

// WithSentinelOf makes the server a sentinel that watches master under name
// and calls it down after 500 ms.
func WithSentinelOf(name string, master *Server, quorum int) ServerOption {
	return withSentinel(sentinelConfig{name, master, quorum, 500 * time.Millisecond, 2 * time.Second})
}

func withSentinel(sc sentinelConfig) ServerOption {
	return func(c *serverConfig) { c.sentinel = &sc }
}

// configure chooses an address and writes the configuration file. A file, and
// not the command line, so that passwords aren't in the process list and
// CONFIG REWRITE works.
func (s *Server) configure() (err error) {
	if s.cfg.unix && s.cfg.tls {
		return errors.New("TLS on a unix socket isn't supported")
	}
	if s.cfg.tls && s.tls == nil {
		s.tls = s.cfg.tlsFiles
	}
	if s.cfg.tls && s.tls == nil {
		if s.tls, err = newTLSFiles(s.Dir); err != nil {
			return err
		}
	}
	if err := s.chooseAddr(); err != nil {
		return err
	}
	lines := []string{
		"dir " + strconv.Quote(s.Dir),
		"daemonize no",
		"protected-mode no",
	}
	lines = append(lines, s.addrLines()...)
	if sc := s.cfg.sentinel; sc != nil {
		lines = append(lines, sc.lines()...)
	} else {
		lines = append(lines, s.dataLines()...)
	}
	if s.cfg.password != "" {
		lines = append(lines, "requirepass "+strconv.Quote(s.cfg.password))
	}
	lines = append(lines, s.cfg.users...)
	lines = append(lines, s.cfg.lines...)
	text := strings.Join(lines, "\n") + "\n"
	return os.WriteFile(filepath.Join(s.Dir, "server.conf"), []byte(text), 0o600)
}

func (s *Server) chooseAddr() (err error) {
	if s.cfg.unix {
		s.Network, s.Addr = "unix", filepath.Join(s.Dir, "s.sock")
		return nil
	}
	releasePort(s.Port)
	if s.Port, err = reservePort(); err != nil {
		return err
	}
	if s.cfg.cluster {
		releasePort(s.cfg.busPort)
		if s.cfg.busPort, err = reservePort(); err != nil {
			return err
		}
	}
	s.Network, s.Addr = "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
	return nil
}

func (s *Server) addrLines() []string {
	if s.cfg.unix {
		return []string{"port 0", "unixsocket " + strconv.Quote(s.Addr), "unixsocketperm 700"}
	}
	lines := []string{"bind 127.0.0.1"}
	if s.tls != nil {
		return append(lines, append(s.tls.lines(), "port 0", "tls-port "+strconv.Itoa(s.Port))...)
	}
	return append(lines, "port "+strconv.Itoa(s.Port))
}

func (s *Server) dataLines() []string {
	lines := []string{
		`save ""`,
		"repl-diskless-sync-delay 0", // a master would wait 5 s for more replicas
	}
	if s.cfg.cluster {
		lines = append(lines,
			"cluster-enabled yes",
			"cluster-config-file nodes.conf",
			"cluster-node-timeout 1000",
			"cluster-port "+strconv.Itoa(s.cfg.busPort))
	}
	if m := s.cfg.master; m != nil {
		lines = append(lines, "replicaof 127.0.0.1 "+strconv.Itoa(m.Port))
		if m.cfg.password != "" {
			lines = append(lines, "masterauth "+strconv.Quote(m.cfg.password))
		}
		if m.tls != nil {
			lines = append(lines, "tls-replication yes")
			if s.tls == nil {
				lines = append(lines, m.tls.lines()...)
			}
		}
	}
	return lines
}

func (sc *sentinelConfig) lines() []string {
	lines := []string{
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d", sc.name, sc.master.Port, sc.quorum),
		fmt.Sprintf("sentinel down-after-milliseconds %s %d", sc.name, sc.downAfter.Milliseconds()),
		fmt.Sprintf("sentinel failover-timeout %s %d", sc.name, sc.failoverTimeout.Milliseconds()),
	}
	if pw := sc.master.cfg.password; pw != "" {
		lines = append(lines, fmt.Sprintf("sentinel auth-pass %s %s", sc.name, strconv.Quote(pw)))
	}
	return lines
}

// ports are those that this process has handed out: a server that is down for
// a while must find its own port free when it comes back.
var ports = struct {
	sync.Mutex
	taken map[int]bool
}{taken: map[int]bool{}}

// reservePort returns a port of 127.0.0.1 that is free. It lies below the
// range that kernels take for outgoing connections: else a client that keeps
// dialing a killed server can get the server's own port, and its restart
// fails.
func reservePort() (int, error) {
	l, err := listenReserved()
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func listenReserved() (*net.TCPListener, error) {
	ports.Lock()
	defer ports.Unlock()
	var last error
	for range 200 {
		port := 15000 + rand.IntN(17000)
		if ports.taken[port] {
			continue
		}
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			last = err
			continue
		}
		ports.taken[port] = true
		return l, nil
	}
	return nil, fmt.Errorf("no free port: %w", last)
}

func releasePort(port int) {
	ports.Lock()
	defer ports.Unlock()
	delete(ports.taken, port)
}
