package hotkey

import (
	"cmp"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/topk"
)

// CommandShare is how much of a key's uses was by a command.
type CommandShare struct {
	// Command is a name such as GET, of the command table, or [hooks.Other] for all
	// beyond the first two that came.
	Command string `json:"command"`
	// Share is of the samples of the key, up to 1.
	Share float64 `json:"share"`
}

// usage is what else is known of the samples of a key, from when the sketch began to
// monitor it: of as many as are surely its own. It is small, since there is one for
// every counter.
type usage struct {
	node     *hooks.Target // that answered last, or nil
	commands [mixed]uint16 // by Index
	by       [mixed]uint32 // how many samples were by each
	misses   uint32
}

// mixed is how many commands of a key are told apart.
const mixed = 2

// use is one sample.
type use struct {
	command uint16
	miss    bool
	node    *hooks.Target
}

// useOf is how a command of an operation has used its keys. A single command has no
// error of its own yet.
func useOf(op *hooks.Operation, cmd redis.Cmder) use {
	c := op.Command
	if c == nil {
		c = hooks.CommandOf(cmd)
	}
	miss := op.Outcome == hooks.Miss
	if op.Kind != hooks.Single {
		outcome, _ := hooks.Classify(cmd.Err())
		miss = outcome == hooks.Miss
	}
	return use{command: uint16(c.Index), miss: miss, node: nodeOf(op)}
}

// nodeOf is the node that an operation has used, or nil: a batch of a cluster or a
// ring may have been for several.
func nodeOf(op *hooks.Operation) *hooks.Target {
	if op.Target == nil || op.Kind != hooks.Single && op.Target.Addr == "" {
		return nil
	}
	return op.Peer()
}

// add adds a sample.
func (u *usage) add(by use) {
	if by.node != nil {
		u.node = by.node
	}
	if by.miss {
		u.misses++
	}
	for i := range u.commands {
		if u.by[i] == 0 {
			u.commands[i] = by.command
		}
		if u.commands[i] == by.command {
			u.by[i]++
			return
		}
	}
}

// describe puts what is known into a count. samples is how many there were.
func (u *usage) describe(c *Count, samples uint64) {
	if samples == 0 {
		return
	}
	share := func(n uint64) float64 { return float64(n) / float64(samples) }
	all, others := hooks.Commands(), samples
	for i, n := range u.by {
		if n > 0 {
			others -= uint64(n)
			c.Commands = append(c.Commands, CommandShare{all[u.commands[i]].Name, share(uint64(n))})
		}
	}
	slices.SortStableFunc(c.Commands, func(a, b CommandShare) int { return cmp.Compare(b.Share, a.Share) })
	if others > 0 {
		c.Commands = append(c.Commands, CommandShare{hooks.Other, share(others)})
	}
	c.Misses = share(uint64(u.misses))
	if u.node != nil {
		c.Node = u.node.Addr
	}
}

// entry is a key of a window.
type entry struct {
	topk.Entry
	usage usage
}
