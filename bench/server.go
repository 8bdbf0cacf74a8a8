package bench

import (
	"context"
	"errors"
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
	others  []*Server // of a cluster
}

// StartServer starts redis-server or valkey-server and returns when it answers.
// The error of a program that isn't installed is exec.ErrNotFound.
func StartServer(ctx context.Context, program string, more ...testkit.ServerOption) (*Server, error) {
	name, ok := strings.CutSuffix(program, "-server")
	if !ok || name != string(testkit.Redis) && name != string(testkit.Valkey) {
		return nil, fmt.Errorf("server %q; allowed are redis-server and valkey-server", program)
	}
	process, err := testkit.StartServer(ctx, testkit.Kind(name), append(more, testkit.WithArgs(
		"--appendonly", "no",
		// A client may open thousands of connections at a time. Those that don't
		// fit in the backlog come a second later.
		"--tcp-backlog", "4096", "--maxclients", "12000",
	))...)
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

// Close kills the server, or all of the cluster, and removes its directory.
func (s *Server) Close() {
	for _, node := range s.nodes() {
		node.process.Close()
	}
}

// serverFigures are what the server says of itself.
type serverFigures struct {
	sockets int // open, without that of the question
	cpu     time.Duration
}

// figures asks the server, or all of the cluster.
func (s *Server) figures(ctx context.Context) (sum serverFigures, err error) {
	for _, node := range s.nodes() {
		info, err := node.process.Call(ctx, "INFO")
		if err != nil {
			return serverFigures{}, err
		}
		f, err := parseInfo(info)
		if err != nil {
			return serverFigures{}, err
		}
		sum.sockets += f.sockets
		sum.cpu += f.cpu
	}
	return sum, nil
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

// setup is what a client of the server is made for.
func (s *Server) setup(c Case) Setup {
	return Setup{Addr: s.Addr, Cluster: len(s.others) > 0, Goroutines: c.Goroutines, ValueSize: c.Workload.Size}
}

// fill stores the workload's value in all keys, and what else is needed.
func (s *Server) fill(ctx context.Context, w Workload, beside Beside) (err error) {
	c, err := newStock(s.setup(Case{Workload: w, Goroutines: 1}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for _, key := range keys {
		if err := c.Set(ctx, key, w.value()); err != nil {
			return err
		}
	}
	return beside.fill(ctx, c)
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
