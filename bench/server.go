package bench

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/everpool/everpool/internal/testkit"
)

// Server is a server of this process's own: on a free port of 127.0.0.1, in a
// temporary directory, without persistence.
type Server struct {
	Addr    string
	Version string // such as "redis 7.0.15"

	process *testkit.Server
}

// StartServer starts redis-server or valkey-server and returns when it answers.
// The error of a program that isn't installed is exec.ErrNotFound.
func StartServer(ctx context.Context, program string) (*Server, error) {
	name, ok := strings.CutSuffix(program, "-server")
	if !ok || name != string(testkit.Redis) && name != string(testkit.Valkey) {
		return nil, fmt.Errorf("server %q; allowed are redis-server and valkey-server", program)
	}
	process, err := testkit.StartServer(ctx, testkit.Kind(name), testkit.WithArgs(
		"--appendonly", "no",
		// A client may open thousands of connections at a time. Those that don't
		// fit in the backlog come a second later.
		"--tcp-backlog", "4096", "--maxclients", "12000",
	))
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: process.Addr, process: process, Version: name}
	if out, err := exec.CommandContext(ctx, program, "--version").Output(); err == nil {
		for word := range strings.FieldsSeq(string(out)) {
			if v, ok := strings.CutPrefix(word, "v="); ok {
				s.Version = name + " " + v
			}
		}
	}
	return s, nil
}

// Close kills the server and removes its directory.
func (s *Server) Close() { s.process.Close() }

// serverFigures are what the server says of itself.
type serverFigures struct {
	sockets int // open, without that of the question
	cpu     time.Duration
}

// figures asks the server.
func (s *Server) figures(ctx context.Context) (serverFigures, error) {
	info, err := s.process.Call(ctx, "INFO")
	if err != nil {
		return serverFigures{}, err
	}
	return parseInfo(info)
}

// parseInfo reads the figures from the reply to INFO.
func parseInfo(info string) (serverFigures, error) {
	sum := func(names ...string) (total float64, err error) {
		for _, name := range names {
			_, rest, ok := strings.Cut(info, "\n"+name+":")
			text, _, _ := strings.Cut(rest, "\r\n")
			v, err := strconv.ParseFloat(text, 64)
			if !ok || err != nil {
				return 0, fmt.Errorf("INFO has no %s: %v", name, err)
			}
			total += v
		}
		return total, nil
	}
	cpu, err := sum("used_cpu_sys", "used_cpu_user")
	if err != nil {
		return serverFigures{}, err
	}
	sockets, err := sum("connected_clients")
	if err != nil {
		return serverFigures{}, err
	}
	return serverFigures{sockets: int(sockets) - 1, cpu: time.Duration(cpu * float64(time.Second))}, nil
}

// fill stores the workload's value in all keys.
func (s *Server) fill(ctx context.Context, w Workload) error {
	args := []string{"MSET"}
	for _, key := range keys {
		args = append(args, key, w.value())
	}
	reply, err := s.process.Call(ctx, args...)
	if err == nil && reply != "OK" {
		err = fmt.Errorf("MSET: %s", reply)
	}
	return err
}

// settle waits until the server has closed the connections of the client that
// has gone: that is work which the next one shouldn't pay for.
func (s *Server) settle(ctx context.Context) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		if f, err := s.figures(ctx); err != nil || f.sockets <= 0 {
			return
		}
		<-tick.C
	}
}
