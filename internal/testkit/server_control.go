package testkit

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// callTimeout bounds one command of [Server.Do]; shorter than go test's own
// timeout, longer than any command that tests send this way.
const callTimeout = 10 * time.Second

func (s *Server) process() (*os.Process, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil, nil
	}
	return s.cmd.Process, s.exited
}

// PID returns the process id of the server, or that of its last process after
// a Kill.
func (s *Server) PID() int {
	p, _ := s.process()
	if p == nil {
		return 0
	}
	return p.Pid
}

// Kill kills the server (SIGKILL) and waits for its exit. It does nothing if
// the server isn't running.
func (s *Server) Kill() {
	p, exited := s.process()
	if p == nil {
		return
	}
	_ = p.Kill() // an error means that it has exited
	<-exited
}

// Exited returns a channel that is closed when the current process has gone,
// by Kill or by itself.
func (s *Server) Exited() <-chan struct{} {
	_, exited := s.process()
	return exited
}

// StartAgain starts the server after a Kill, on the same port and directory,
// and returns without waiting until it answers.
func (s *Server) StartAgain(tb testing.TB) {
	tb.Helper()
	if err := s.launchAgain(); err != nil {
		tb.Fatalf("testkit: start %s again: %v", s.Addr, err)
	}
}

// Restart starts the server after a Kill, on the same port and directory, and
// returns when it answers.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.RestartContext(ctx); err != nil {
		tb.Fatalf("testkit: restart %s: %v", s.Addr, err)
	}
}

// RestartContext is [Server.Restart] for programs that aren't tests.
func (s *Server) RestartContext(ctx context.Context) error {
	for {
		if err := s.launchAgain(); err != nil {
			return err
		}
		// The port may be lent to somebody's outgoing connection for a moment.
		if err := s.waitReady(ctx); !errors.Is(err, errPortTaken) || ctx.Err() != nil {
			return err
		}
	}
}

func (s *Server) launchAgain() error {
	_, exited := s.process()
	select {
	case <-exited:
	default:
		return errors.New("the server is still running")
	}
	if s.Network == "unix" {
		_ = os.Remove(s.Addr) // what a killed server leaves behind
	}
	return s.launch()
}

// WaitReady returns when the server answers, for use after StartAgain.
func (s *Server) WaitReady(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.waitReady(ctx); err != nil {
		tb.Fatalf("testkit: %s: %v", s.Addr, err)
	}
}

// Freeze stops the process (SIGSTOP) and returns when it stands still: its
// connections stay open, the kernel still accepts new ones, nothing is
// answered. Kill and Close work on a frozen server too.
func (s *Server) Freeze() {
	p, exited := s.process()
	if p == nil || signalStop(p) != nil {
		return
	}
	s.setFrozen(true)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !stopped(p.Pid) {
		select {
		case <-exited:
			return
		case <-tick.C:
		}
	}
}

// Thaw lets a frozen server go on (SIGCONT).
func (s *Server) Thaw() {
	if p, _ := s.process(); p != nil {
		_ = signalContinue(p) // an error means that it has exited
		s.setFrozen(false)
	}
}

func (s *Server) setFrozen(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = on
}

// Live says whether the server's process runs and isn't frozen by Freeze.
func (s *Server) Live() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.exited: // nil, and not ready, before the first start
		return false
	default:
		return s.cmd != nil && !s.frozen
	}
}

// Do sends one command on a fresh connection, authenticated with the server's
// own password, and returns the reply as text: an error reply with its
// leading "-", null as "(nil)", aggregates with one element per line. The test
// fails if there is no reply.
func (s *Server) Do(tb testing.TB, args ...string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	reply, err := s.Call(ctx, args...)
	if err != nil {
		tb.Fatalf("testkit: %s on %s: %v", strings.Join(args, " "), s.Addr, err)
	}
	return reply
}

// Call is [Server.Do] with an error instead of a failing test.
func (s *Server) Call(ctx context.Context, args ...string) (string, error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	c := newRespClient(conn)
	if refusal, err := s.logIn(c); refusal != "" || err != nil {
		return refusal, err
	}
	reply, err := c.call(args...)
	if err == nil && reply == "OK" && len(args) == 4 &&
		strings.EqualFold(args[0], "CONFIG") && strings.EqualFold(args[1], "SET") && strings.EqualFold(args[2], "requirepass") {
		s.mu.Lock()
		s.password = args[3] // or the next Call would be locked out
		s.mu.Unlock()
	}
	return reply, err
}

// logIn authenticates the connection with the server's own password, if it has
// one, and returns the error reply that refuses it.
func (s *Server) logIn(c *respClient) (refusal string, err error) {
	password := s.currentPassword()
	if password == "" {
		return "", nil
	}
	reply, err := c.call("AUTH", password)
	if strings.HasPrefix(reply, "-") {
		return reply, err
	}
	return "", err
}

func (s *Server) currentPassword() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.password
}
