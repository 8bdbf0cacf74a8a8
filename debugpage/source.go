package debugpage

import (
	"errors"

	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/pooler"
)

// Nodes is what has pools: a driver.Driver does.
type Nodes interface {
	// Nodes returns the state of every node. It is called by each request and should do
	// no network I/O. It may be called concurrently. Should it panic, the page says so.
	Nodes() []pooler.NodeStatus
}

// HotKeys is what knows the keys that are used most: a [hotkey.Tracker] does.
type HotKeys interface {
	// Top returns up to n keys of a class, the first of them used most.
	Top(class hotkey.Class, n int) []hotkey.Count
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
	// Settings are shown with their defaults filled in. nil: they aren't.
	Settings *pooler.Config
	// HotKeys has its ten most used keys of each class shown. Keys may be confidential.
	// nil: none are.
	HotKeys HotKeys
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

// hotKeys returns the most used keys of both classes, without those that the tracker
// doesn't have.
func (s *Source) hotKeys() (all []keyView, err error) {
	defer func() {
		if v := recover(); v != nil {
			all, err = nil, guard.PanicError("reading its hot keys", v)
		}
	}()
	if guard.IsNil(s.HotKeys) {
		return nil, nil
	}
	all = []keyView{}
	for _, class := range []hotkey.Class{hotkey.Reads, hotkey.Writes} {
		for _, c := range s.HotKeys.Top(class, mostKeys) {
			all = append(all, keyView{Class: class.String(), Key: visible(c.Key), PerSecond: c.Rate, Share: c.Share})
		}
	}
	return all, nil
}
