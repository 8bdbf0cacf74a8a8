package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"

	"github.com/alicebob/miniredis/v2"
)

// password is that of the servers.
const password = "secret"

// server is a server of the program's own: a process, or embedded where none is installed.
type server struct {
	addr  string
	start func() error // again, at the same address
	kill  func()
	end   func()
}

// newServer starts a server.
func newServer() (*server, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if program, err := exec.LookPath(name); err == nil {
			return newProcess(program)
		}
	}
	return newEmbedded()
}

func newProcess(program string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "everpool-manager-")
	if err != nil {
		return nil, err
	}
	var cmd *exec.Cmd
	s := &server{
		addr: "127.0.0.1:" + port,
		start: func() error {
			cmd = exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--requirepass", password)
			return cmd.Start()
		},
		kill: func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		},
	}
	s.end = func() {
		s.kill()
		_ = os.RemoveAll(dir)
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func newEmbedded() (*server, error) {
	m := miniredis.NewMiniRedis()
	m.RequireAuth(password)
	if err := m.Start(); err != nil {
		return nil, fmt.Errorf("starting an embedded server: %w", err)
	}
	return &server{addr: m.Addr(), start: m.Restart, kill: m.Close, end: m.Close}, nil
}

// freePort returns a port that nothing listens on just now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
