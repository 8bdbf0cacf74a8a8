package debugpage

import (
	"errors"
	"fmt"

	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/pooler"
)

// Nodes is what has pools: a driver.Driver does.
type Nodes interface {
	// Nodes returns the state of every node. It is called by each request and should do
	// no network I/O. It may be called concurrently. Should it panic, the page says so.
	Nodes() []pooler.NodeStatus
}

// Source is something to show: a driver, or the clients of a manager. One of Nodes and
// Clients has to be set, all else is optional. A source that has neither or both is shown
// as wrong at the top of the page.
type Source struct {
	// Name is shown, to tell sources apart.
	Name string
	// Nodes is a driver.
	Nodes Nodes
	// Clients is for a manager: Clients(m.Status), with the function [Clients].
	Clients func() []Client
	// Gathering returns what gathering has done: GatherStats(d.GatherStats), with the function
	// [GatherStats]. It is called like Nodes. nil: it isn't shown.
	Gathering func() Gathered
	// HotKeys returns up to n of the most used keys of each class, which are shown; see
	// [TopKeys]. Keys may be confidential. nil: none are shown.
	HotKeys func(n int) []HotKey
	// HotKeysURL is where the tracker's own page is: "/debug/hotkeys". "": it isn't
	// linked.
	HotKeysURL string
}

// Client is one client of a manager, with its nodes. It is what driver.ClientStatus is.
type Client struct {
	Name     string
	Kind     string // "standalone", "cluster" or "sentinel"
	URL      string // not shown
	Healthy  bool
	Degraded bool // not healthy, but some slots are served
	Nodes    []pooler.NodeStatus
}

// Clients makes of a manager's Status what [Source].Clients takes: Clients(m.Status). S is
// driver.ClientStatus, which isn't named so that this package doesn't need the driver.
func Clients[S ~struct {
	Name     string
	Kind     string
	URL      string
	Healthy  bool
	Degraded bool
	Nodes    []pooler.NodeStatus
}](status func() []S,
) func() []Client {
	return func() []Client {
		var all []Client
		for _, s := range status() {
			all = append(all, Client(s))
		}
		return all
	}
}

// HotKey is a key that is used much.
type HotKey struct {
	Class     string  `json:"class"` // "reads" or "writes"
	Key       string  `json:"key"`
	PerSecond float64 `json:"per_second"`
	Share     float64 `json:"share"` // of all uses of keys in the class, up to 1
}

// TopKeys makes of a hotkey.Tracker's Top what [Source].HotKeys takes, for these classes:
//
//	debugpage.TopKeys(tracker.Top, func(c hotkey.Count) debugpage.HotKey {
//		return debugpage.HotKey{Key: c.Key, PerSecond: c.Rate, Share: c.Share}
//	}, hotkey.Reads, hotkey.Writes)
//
// The types aren't named here since package hotkey needs that of Prometheus, and that
// expvar.
func TopKeys[C fmt.Stringer, K any](top func(class C, n int) []K, show func(K) HotKey, classes ...C) func(n int) []HotKey {
	return func(n int) []HotKey {
		var all []HotKey
		for _, class := range classes {
			for _, k := range top(class, n) {
				key := show(k)
				key.Class = class.String()
				all = append(all, key)
			}
		}
		return all
	}
}

var errSource = errors.New("one of Nodes and Clients has to be set, to what isn't nil")

// read returns the clients of a source; those of a driver are one, without a name.
func (s *Source) read() (all []Client, err error) {
	defer func() {
		if v := recover(); v != nil {
			all, err = nil, guard.PanicError("reading its nodes", v)
		}
	}()
	hasNodes := !guard.IsNil(s.Nodes)
	switch {
	case hasNodes == (s.Clients != nil):
		return nil, errSource
	case hasNodes:
		return []Client{{Healthy: true, Nodes: s.Nodes.Nodes()}}, nil
	}
	return s.Clients(), nil
}

// mostKeys is how many hot keys of each class are shown.
const mostKeys = 10

// hotKeys returns the most used keys, as they may be shown; nil if the source has none to
// tell of.
func (s *Source) hotKeys() (all []HotKey, err error) {
	defer func() {
		if v := recover(); v != nil {
			all, err = nil, guard.PanicError("reading its hot keys", v)
		}
	}()
	if s.HotKeys == nil {
		return nil, nil
	}
	all = []HotKey{}
	for _, k := range s.HotKeys(mostKeys) {
		k.Key = visible(k.Key)
		all = append(all, k)
	}
	return all, nil
}
