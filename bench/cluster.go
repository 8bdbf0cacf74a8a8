package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/everpool/everpool/internal/testkit"
)

const slots = 16384

// StartCluster starts a cluster of so many masters, as [StartServer] starts a server,
// and returns when each of them knows all slots.
func StartCluster(ctx context.Context, program string, masters int) (*Server, error) {
	var first *Server
	for i := range masters {
		s, err := StartServer(ctx, program, testkit.WithCluster())
		if err != nil {
			if first != nil {
				first.Close()
			}
			return nil, err
		}
		if first == nil {
			first = s
		} else {
			first.others = append(first.others, s)
		}
		from, to := slots*i/masters, slots*(i+1)/masters-1
		err = errors.Join(s.order(ctx, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)),
			s.order(ctx, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(from), strconv.Itoa(to)), s.meet(ctx, first))
		if err != nil {
			first.Close()
			return nil, err
		}
	}
	if err := first.awaitCluster(ctx, masters); err != nil {
		first.Close()
		return nil, err
	}
	return first, nil
}

// order has the server do what it answers with OK.
func (s *Server) order(ctx context.Context, args ...string) error {
	reply, err := s.process.Call(ctx, args...)
	if err == nil && reply != "OK" {
		err = fmt.Errorf("%s: %s", strings.Join(args, " "), reply)
	}
	return err
}

// meet introduces the server to another one.
func (s *Server) meet(ctx context.Context, other *Server) error {
	if s == other {
		return nil
	}
	nodes, err := other.process.Call(ctx, "CLUSTER", "NODES")
	if err != nil {
		return err
	}
	for line := range strings.Lines(nodes) { // id ip:port@bus[,host] flags ...
		if !strings.Contains(line, "myself") {
			continue
		}
		addr := strings.Fields(line)[1]
		_, bus, _ := strings.Cut(addr, "@")
		bus, _, _ = strings.Cut(bus, ",")
		return s.order(ctx, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.process.Port), bus)
	}
	return fmt.Errorf("CLUSTER NODES doesn't name the node itself:\n%s", nodes)
}

// clusterTime is how long a cluster may take to settle.
const clusterTime = 30 * time.Second

// awaitCluster waits until all nodes know each other and all slots.
func (s *Server) awaitCluster(ctx context.Context, masters int) error {
	ctx, cancel := context.WithTimeout(ctx, clusterTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, node := range s.nodes() {
		for {
			info, err := node.process.Call(ctx, "CLUSTER", "INFO")
			if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_size:"+strconv.Itoa(masters)) {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("the cluster doesn't settle: %w\n%s", errors.Join(ctx.Err(), err), info)
			}
		}
	}
	return nil
}

// nodes are all servers, this one first.
func (s *Server) nodes() []*Server { return append([]*Server{s}, s.others...) }
