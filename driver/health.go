package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/topology"
	"github.com/everpool/everpool/pooler"
)

// ErrNoHealthyNode is the error of what has no node that could serve. It comes in a
// [*NoHealthyNodeError], which is [pooler.ErrNodeDown] too.
var ErrNoHealthyNode = errors.New("everpool: no healthy node")

// NoHealthyNodeError says which nodes there are, and why none serves.
type NoHealthyNodeError struct {
	// Name is the client's, with its [Manager]; "" of a [Driver].
	Name string
	// Nodes are those that are known: each with its state, since when, and the last
	// error of a dial (Stats.LastDialError).
	Nodes []NodeStatus
	// Cause is what happened when they were asked, or ended the wait for them. nil: they
	// weren't asked.
	Cause error
}

// Error names the nodes and why they don't serve, without times and credentials.
func (e *NoHealthyNodeError) Error() string {
	var b strings.Builder
	b.WriteString(ErrNoHealthyNode.Error())
	if e.Name != "" {
		fmt.Fprintf(&b, " of %q", e.Name)
	}
	sep := ": "
	for _, n := range e.Nodes {
		state := n.State.String()
		if n.Silent {
			state = "silent"
		}
		fmt.Fprintf(&b, "%s%s is %s", sep, n.Addr, state)
		if n.Stats.LastDialError != "" {
			fmt.Fprintf(&b, " (%s)", n.Stats.LastDialError)
		}
		sep = ", "
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	return b.String()
}

// Is knows both names of what it is.
func (e *NoHealthyNodeError) Is(target error) bool {
	return target == ErrNoHealthyNode || target == pooler.ErrNodeDown
}

// Unwrap returns the cause.
func (e *NoHealthyNodeError) Unwrap() error { return e.Cause }

// stateOf says of a node in which state it is.
type stateOf func(*node) pooler.State

// of is the function for topologies, whose nodes are the driver's.
func (s stateOf) of(n topology.Node) pooler.State { return s(n.(*node)) }

// knownState is the state by what the node's pool knows; up, too, if the node accepts
// no connection and those that it has still answer (maxclients). It doesn't block.
func knownState(n *node) pooler.State {
	if ill := n.Pool.Illness(); !ill.Ill() || ill.Silent {
		return pooler.StateUp
	}
	state := n.Pool.Stats().State
	if state == pooler.StateSuspect && n.Pool.Serves() {
		return pooler.StateUp
	}
	return state
}

// answerTime is how long a node has to answer for its health.
const answerTime = 2 * topology.AskTime

// anyUp is the health of nodes of which each is enough.
func anyUp(nodes []*node, state stateOf) topology.Health {
	return topology.Health{Healthy: slices.ContainsFunc(nodes, func(n *node) bool { return state(n) == pooler.StateUp })}
}

// heed has nodes looked for that are ill, though nobody asks for them, and has nodes
// asked that have answered nothing since it was last called. It doesn't block.
func (d *Driver) heed(nodes []*node) {
	var quiet []*node
	for _, n := range nodes {
		switch {
		case n.Pool.Illness().Ill():
			nudge(n)
		case n.answered.Load() == n.Pool.Stats().Answered:
			quiet = append(quiet, n)
		default:
			n.answered.Store(n.Pool.Stats().Answered)
		}
	}
	if len(quiet) == 0 || !d.asking.CompareAndSwap(false, true) {
		return
	}
	started := d.start(func(ctx context.Context) {
		defer d.asking.Store(false)
		var wg sync.WaitGroup
		for _, n := range quiet {
			wg.Go(func() {
				_ = n.answers(ctx) // the pool takes note
				n.answered.Store(n.Pool.Stats().Answered)
			})
		}
		wg.Wait()
	})
	if !started {
		d.asking.Store(false)
	}
}

// heedServices has looked after all that services stand on.
func (d *Driver) heedServices(services []*service) {
	d.heed(members(services))
	for _, s := range services {
		if s.topology != nil && !s.topology.Health(stateOf(knownState).of).Healthy {
			s.topology.Heed()
		}
	}
}

// service is what is served as a whole: a node by itself, a topology, a ring.
type service struct {
	topology *topology.Topology // nil: any node is enough
	nodes    []*node
}

func (s *service) health(state stateOf) topology.Health {
	if s.topology != nil {
		return s.topology.Health(state.of)
	}
	return anyUp(s.nodes, state)
}

// services are what the driver's nodes in use serve. Sentinels serve nobody.
func (d *Driver) services() []*service {
	d.mu.Lock()
	nodes := slices.Collect(maps.Values(d.nodes))
	d.mu.Unlock()
	var all []*service
	of := make(map[any]*service) // by what nodes have in common
	add := func(key any, t *topology.Topology, n *node) {
		s := of[key]
		if s == nil {
			s = &service{topology: t}
			of[key], all = s, append(all, s)
		}
		s.nodes = append(s.nodes, n)
	}
	for _, n := range nodes {
		used := n.needed()
		n.mu.Lock()
		topologies := n.topologies
		n.mu.Unlock()
		switch places := n.first.Places.(type) {
		case *shards:
			if used {
				add(places, nil, n)
			}
			continue
		case topology.Hasty, topology.AtSentinels: // or a member that was only asked
			if len(topologies) == 0 {
				continue
			}
		}
		for _, t := range topologies {
			if t.Used() {
				add(t, t, n)
			}
		}
		if used && len(topologies) == 0 {
			add(n, nil, n)
		}
	}
	return all
}

// verdict returns the error of what isn't healthy, or nil.
func verdict(services []*service, state stateOf) error {
	ill := slices.DeleteFunc(slices.Clone(services), func(s *service) bool { return s.health(state).Healthy })
	if len(ill) == 0 {
		return nil
	}
	return &NoHealthyNodeError{Nodes: statuses(members(ill))}
}

// statuses are those of the nodes, ordered by address.
func statuses(nodes []*node) []NodeStatus {
	all := make([]NodeStatus, 0, len(nodes))
	for _, n := range nodes {
		all = append(all, n.status())
	}
	slices.SortFunc(all, func(a, b NodeStatus) int {
		return cmp.Or(cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.Network, b.Network))
	})
	return all
}

// Health asks the nodes that clients use now, with a PING each, and returns nil if all
// that they serve is served: of a node by itself if it answers, of what sentinels watch
// if its master does, of a cluster if every slot has a master that does, of a ring if any
// shard does. Replicas and sentinels aren't needed. Nodes that are away count as used for
// five minutes after the last call, since their clients have no handles then; those of a
// ring as long as it lives. Otherwise it fails with
// [ErrNoHealthyNode]. It blocks until all have answered, for 2 seconds, or until ctx ends.
// A driver that no client has used has no nodes and is healthy; one that is closed fails
// with [pooler.ErrClosed].
func (d *Driver) Health(ctx context.Context) error {
	if err := d.usable(); err != nil {
		return err
	}
	services := d.services()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed = make(map[*node]error)
	)
	for _, n := range members(services) {
		wg.Go(func() {
			if err := n.answers(ctx); err != nil {
				mu.Lock()
				failed[n] = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	err := verdict(services, func(n *node) pooler.State {
		if failed[n] != nil {
			return pooler.StateDown
		}
		return pooler.StateUp
	})
	if e := (*NoHealthyNodeError)(nil); errors.As(err, &e) && len(failed) > 0 {
		e.Cause = endedBy(ctx, slices.MinFunc(slices.Collect(maps.Values(failed)), func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) }))
	}
	return err
}

// endedBy adds to an error why ctx has ended, if it has. What has the same deadline as ctx
// may have ended a moment before it.
func endedBy(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if end, ok := ctx.Deadline(); cause == nil && ok && !time.Now().Before(end) {
		cause = context.DeadlineExceeded
	}
	if cause != nil && !errors.Is(err, cause) {
		err = errors.Join(err, cause)
	}
	return oneLineError{err}
}

// oneLineError is an error, of several perhaps, in one line.
type oneLineError struct{ error }

func (e oneLineError) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", "; ") }
func (e oneLineError) Unwrap() error { return e.error }

// members are all nodes of the services, each once.
func members(services []*service) []*node {
	all := make(map[*node]bool)
	for _, s := range services {
		for _, n := range s.nodes {
			all[n] = true
		}
	}
	return slices.Collect(maps.Keys(all))
}

// usable returns why the driver can't be used, or nil.
func (d *Driver) usable() error {
	if err := d.unmade(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return &pooler.Error{Err: pooler.ErrClosed}
	}
	return nil
}

// answers asks the node with a PING. A node that isn't well is looked for first, for
// topology.AskTime at most. All of it takes answerTime at most.
func (n *node) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := n.Await(ctx, nil, topology.AskTime); err != nil {
		return err
	}
	n.mu.Lock()
	gone := n.closed
	n.mu.Unlock()
	if gone { // to ask would make it anew
		return &pooler.Error{Err: pooler.ErrClosed, Node: n.key.addr}
	}
	o := n.first.askingAt(nil)
	o.Network, o.Addr = n.key.network, n.key.addr
	c := redis.NewClient(&o)
	err := c.Ping(ctx).Err()
	if errors.Is(err, io.EOF) { // the end of a connection says nothing of the node
		err = c.Ping(ctx).Err()
	}
	if isRefusal(err) {
		err = nil
	}
	return errors.Join(err, c.Close())
}

// isRefusal reports whether the error is the answer of a server that serves others.
func isRefusal(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) || errors.Is(err, redis.Nil) { // which sentinels are taken to have answered
		return false
	}
	return !slices.ContainsFunc(passing, func(word string) bool { return strings.HasPrefix(reply.Error(), word) })
}

// passing are how servers begin to say that they can't serve for now.
var passing = []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "READONLY", "MOVED", "ASK", "ERR max number of clients"}
