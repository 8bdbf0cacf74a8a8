package testkit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Kind says which server program runs.
type Kind string

// The server programs, both found in PATH as <kind>-server.
const (
	Redis  Kind = "redis"
	Valkey Kind = "valkey"
)

// Kinds are all server programs, for tests that run on each.
var Kinds = []Kind{Redis, Valkey}

// startTimeout bounds a start-up; a loaded CI machine takes seconds.
const startTimeout = 30 * time.Second

// Server is a running redis-server or valkey-server with a port and a
// directory of its own.
type Server struct {
	Kind    Kind
	Addr    string // 127.0.0.1:port, or the path of the socket
	Network string // "tcp" or "unix"
	Dir     string // working directory; the log is in server.log
	Port    int    // 0 on a unix socket

	cfg serverConfig
	tls *tlsFiles // nil without TLS

	mu       sync.Mutex
	cmd      *exec.Cmd     // the current process, or the last one
	exited   chan struct{} // closed when cmd has been waited for
	logStart int64         // where in server.log cmd begins
	password string        // of the default user, as the server has it now
	frozen   bool          // by Freeze
}

// Start starts a server for one test and returns when it answers. The test's
// cleanup kills it and removes its directory. If the program isn't installed,
// the test is skipped, or fails when the environment variable CI is "true". Under
// -short it is skipped.
func Start(tb testing.TB, kind Kind, opts ...ServerOption) *Server {
	tb.Helper()
	LongOnly(tb)
	s, err := StartServer(context.Background(), kind, opts...)
	if err != nil {
		notStarted(tb, kind, err)
	}
	tb.Cleanup(s.Close)
	return s
}

// startAll starts as many servers at once as there are lists of options, as
// [Start] starts one.
func startAll(tb testing.TB, kind Kind, opts ...[]ServerOption) []*Server {
	tb.Helper()
	LongOnly(tb)
	servers, errs := make([]*Server, len(opts)), make([]error, len(opts))
	var starting sync.WaitGroup
	for i, o := range opts {
		starting.Go(func() { servers[i], errs[i] = StartServer(context.Background(), kind, o...) })
	}
	starting.Wait()
	for _, s := range servers {
		if s != nil {
			tb.Cleanup(s.Close)
		}
	}
	if err := errors.Join(errs...); err != nil {
		notStarted(tb, kind, err)
	}
	return servers
}

// LongOnly skips the test under -short, which is for what needs no server and ends
// within a minute.
func LongOnly(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("it starts real servers, or takes long: not under -short")
	}
}

// notStarted skips the test if the program is missing and may be, and fails it
// otherwise.
func notStarted(tb testing.TB, kind Kind, err error) {
	tb.Helper()
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
		tb.Skipf("no real server: %v", err)
	}
	tb.Fatalf("testkit: start %s: %v", kind, err)
}

// StartServer is [Start] for programs that aren't tests: ctx bounds the
// start-up only, and the caller calls Close. A missing program gives an error
// that is exec.ErrNotFound.
func StartServer(ctx context.Context, kind Kind, opts ...ServerOption) (*Server, error) {
	if _, err := exec.LookPath(string(kind) + "-server"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	// A short path: that of a unix socket has 108 bytes at most.
	dir, err := os.MkdirTemp("", "testkit-")
	if err != nil {
		return nil, err
	}
	s := &Server{Kind: kind, Dir: dir}
	for _, o := range opts {
		o(&s.cfg)
	}
	for {
		err = s.startOnNewPort(ctx)
		if !errors.Is(err, errPortTaken) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) startOnNewPort(ctx context.Context) error {
	if err := s.configure(); err != nil {
		return err
	}
	if err := s.launch(); err != nil {
		return err
	}
	return s.waitReady(ctx)
}

// Close kills the server, waits for its exit, and removes its directory.
func (s *Server) Close() {
	s.Kill()
	releasePort(s.Port)
	releasePort(s.cfg.busPort)
	_ = os.RemoveAll(s.Dir)
}

// launch starts the process without waiting for it to answer.
func (s *Server) launch() error {
	log, err := os.OpenFile(filepath.Join(s.Dir, "server.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return err
	}
	args := append([]string{filepath.Join(s.Dir, "server.conf")}, s.cfg.args...)
	if s.cfg.sentinel != nil {
		args = append(args, "--sentinel")
	}
	cmd := exec.Command(string(s.Kind)+"-server", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	cmd.SysProcAttr = DieWithParent()
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // killed, as a rule
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd, s.exited, s.logStart, s.password = cmd, exited, info.Size(), s.cfg.password
	s.frozen = false
	return nil
}

var errPortTaken = errors.New("port is taken by another process")

// waitReady returns when this very process answers. It asks every 5 ms; a
// real process gives no other sign that is sure.
func (s *Server) waitReady(ctx context.Context) error {
	_, exited := s.process()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ready, err := s.answers(ctx)
		if ready {
			return nil
		}
		select {
		case <-exited:
			log := s.log()
			if strings.Contains(log, "Address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("the server exited (%v); its log:\n%s", err, log)
		case <-ctx.Done():
			return fmt.Errorf("no answer from the server (%v): %w; its log:\n%s", err, ctx.Err(), s.log())
		case <-tick.C:
		}
	}
}

// answers says whether the server is ready, and that it isn't a stranger who
// got the port first.
func (s *Server) answers(ctx context.Context) (bool, error) {
	pong, err := s.Call(ctx, "PING")
	switch {
	case err != nil:
		return false, err
	case strings.HasPrefix(pong, "-NOAUTH"), strings.HasPrefix(pong, "-NOPERM"):
		return true, nil // nothing more can be asked
	case pong != "PONG":
		return false, errors.New(pong)
	}
	info, err := s.Call(ctx, "INFO", "server")
	if err != nil {
		return false, err
	}
	if strings.HasPrefix(info, "-") {
		return true, nil
	}
	if !strings.Contains(info, "process_id:"+strconv.Itoa(s.PID())+"\r\n") {
		return false, errors.New("another process answers")
	}
	return true, nil
}

// log returns what the current process has logged.
func (s *Server) log() string {
	s.mu.Lock()
	start := s.logStart
	s.mu.Unlock()
	b, err := os.ReadFile(filepath.Join(s.Dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	return string(b[min(start, int64(len(b))):])
}

// Log returns what the current process has logged, for failure messages.
func (s *Server) Log() string { return s.log() }

// TLSConfig returns a new configuration for clients of a [WithTLS] server: it
// trusts the test's CA and presents a client certificate. It is nil for a
// server without TLS.
func (s *Server) TLSConfig() *tls.Config {
	if s.tls == nil {
		return nil
	}
	return s.tls.client.Clone()
}

// dial opens a connection as a client would.
func (s *Server) dial(ctx context.Context) (net.Conn, error) {
	if cfg := s.TLSConfig(); cfg != nil {
		return (&tls.Dialer{Config: cfg}).DialContext(ctx, s.Network, s.Addr)
	}
	return new(net.Dialer).DialContext(ctx, s.Network, s.Addr)
}
