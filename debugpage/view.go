package debugpage

import (
	"cmp"
	"time"

	"github.com/everpool/everpool/internal/poolview"
	"github.com/everpool/everpool/internal/safeaddr"
	"github.com/everpool/everpool/pooler"
)

// view is what is shown, as a page and as JSON.
type view struct {
	At              time.Time     `json:"at"`
	IntervalSeconds float64       `json:"interval_seconds,omitempty"` // that rates are of; 0: there are none yet
	Well            bool          `json:"well"`
	Findings        []finding     `json:"findings"`
	Sources         []*sourceView `json:"sources"`
}

type sourceView struct {
	Name       string        `json:"name"`
	Error      string        `json:"error,omitempty"`
	Clients    []*clientView `json:"clients"`
	Settings   []settings    `json:"settings,omitempty"`
	Gathering  *Gathered     `json:"gathering,omitempty"`
	HotKeys    []HotKey      `json:"hot_keys,omitempty"`
	HotKeysURL string        `json:"hot_keys_url,omitempty"`
	tracked    bool
}

// clientView is a client of a manager, or all that there is of a driver.
type clientView struct {
	Name     string      `json:"name,omitempty"`
	Kind     string      `json:"kind,omitempty"`
	Healthy  bool        `json:"healthy"`
	Degraded bool        `json:"degraded,omitempty"`
	Nodes    []*nodeView `json:"nodes"`
}

type nodeView struct {
	Network      string    `json:"network"`
	Addr         string    `json:"addr"`
	TLS          bool      `json:"tls,omitempty"`
	State        string    `json:"state"`
	Since        time.Time `json:"since,omitzero"`
	StateSeconds float64   `json:"state_seconds,omitempty"`
	Silent       bool      `json:"silent,omitempty"`
	member
	Handles       int        `json:"handles"`
	Sessions      int        `json:"sessions"`
	Sockets       socketView `json:"sockets"`
	Waiting       int        `json:"waiting"` // requests, for a connection
	OldestWaiter  seconds    `json:"oldest_waiter_seconds"`
	Awaiting      int        `json:"awaiting"` // callers, for the node
	InFlight      int64      `json:"in_flight"`
	OldestReply   seconds    `json:"oldest_exchange_seconds"`
	Counters      counters   `json:"counters"`
	Closes        counters   `json:"closes"`
	Pins          counters   `json:"pins"`
	Lanes         []lane     `json:"lanes"`   // shared connections, the oldest first
	Holders       []holder   `json:"holders"` // of sockets in use, those who hold most first
	LastDialError string     `json:"last_dial_error,omitempty"`
	Events        []event    `json:"events"` // the latest first
	interval      time.Duration
}

// member is what a node is to others.
type member struct {
	Topology   string `json:"topology,omitempty"`
	Role       string `json:"role,omitempty"`
	Slots      int    `json:"slots,omitempty"`
	SlotRanges string `json:"slot_ranges,omitempty"`
}

// holder is what some sockets are doing.
type holder struct {
	What   string  `json:"what"`
	Conns  int     `json:"conns"`
	Oldest seconds `json:"oldest_seconds"`
}

func holdersOf(s *pooler.Stats) []holder {
	all := []holder{}
	for _, h := range s.Holders {
		all = append(all, holder{h.What, h.Conns, seconds(h.Oldest)})
	}
	return all
}

// socketView are the sockets by use. Max is -1 without a bound.
type socketView struct {
	Open     int `json:"open"`
	Max      int `json:"max"`
	Idle     int `json:"idle"`
	Used     int `json:"used"`
	Pinned   int `json:"pinned"`
	Shared   int `json:"shared"`
	Draining int `json:"draining"`
	Streams  int `json:"streams"` // of Pinned: beyond the bound
	Dialing  int `json:"dialing"`
}

// seconds is a duration that is a number of seconds in JSON.
type seconds time.Duration

// MarshalJSON makes a number of it.
func (s seconds) MarshalJSON() ([]byte, error) {
	return appendSeconds(nil, time.Duration(s)), nil
}

// place tells apart what pools are of.
type place struct {
	source int
	client string
}

// gather looks at all sources.
func gather(sources []Source, h *history) *view {
	v := &view{At: time.Now(), Findings: []finding{}, Sources: []*sourceView{}}
	now := &sample{at: v.At, stats: make(map[poolview.Source]pooler.Stats)}
	read := make([][]Client, len(sources))
	errs := make([]error, len(sources))
	for i := range sources {
		if read[i], errs[i] = sources[i].read(); errs[i] != nil {
			continue
		}
		for _, c := range read[i] {
			for j, key := range poolview.Sources(place{i, c.Name}, c.Nodes) {
				now.stats[key] = c.Nodes[j].Stats
			}
		}
	}
	before := h.add(now)
	if before != nil {
		v.IntervalSeconds = v.At.Sub(before.at).Seconds()
	}
	for i := range sources {
		v.Sources = append(v.Sources, v.source(i, &sources[i], read[i], errs[i], before))
	}
	v.judge()
	v.At = v.At.UTC().Round(time.Millisecond)
	return v
}

func (v *view) source(nth int, of *Source, clients []Client, err error, before *sample) *sourceView {
	s := &sourceView{Name: of.Name, HotKeysURL: of.HotKeysURL, Clients: []*clientView{}, Settings: settingsOf(clients)}
	keys, keysErr := of.hotKeys()
	s.HotKeys, s.tracked = keys, keys != nil
	gathered, gatheredErr := of.gathering()
	s.Gathering = gathered
	if err = cmp.Or(err, keysErr, gatheredErr); err != nil {
		s.Error = err.Error()
	}
	for _, c := range clients {
		cv := &clientView{Name: c.Name, Kind: c.Kind, Healthy: c.Healthy, Degraded: c.Degraded, Nodes: []*nodeView{}}
		for j, key := range poolview.Sources(place{nth, c.Name}, c.Nodes) {
			var p pace
			if before != nil {
				if stats, ok := before.stats[key]; ok {
					p = pace{&stats, v.IntervalSeconds}
				}
			}
			cv.Nodes = append(cv.Nodes, v.node(&c.Nodes[j], p))
		}
		s.Clients = append(s.Clients, cv)
	}
	return s
}

func (v *view) node(n *pooler.NodeStatus, p pace) *nodeView {
	s := &n.Stats
	use := poolview.StatesOf(s)
	nv := &nodeView{
		Network: n.Network, Addr: safeaddr.Of(n.Addr), TLS: n.TLS, State: n.State.String(), Since: n.Since, Silent: n.Silent,
		member:  member{n.Topology, n.Role, n.Slots.Count(), n.Slots.String()},
		Handles: n.Handles, Sessions: s.Sessions,
		Sockets: socketView{
			Open: s.OpenConnections, Max: s.MaxOpenConnections, Idle: use.Idle, Used: use.Used, Pinned: use.Pinned,
			Shared: use.Shared, Draining: use.Draining, Streams: s.Streams, Dialing: s.Dialing,
		},
		Waiting: s.Waiting, OldestWaiter: seconds(s.OldestWaiter), Awaiting: s.Awaiting,
		InFlight: s.InFlight, OldestReply: seconds(s.OldestExchange), LastDialError: errorOf(n, s.LastDialError),
		Counters: p.counted(s),
		Closes:   reasons(p, s, func(s *pooler.Stats) map[pooler.CloseReason]int64 { return s.Closes }),
		Pins:     reasons(p, s, func(s *pooler.Stats) map[string]int64 { return s.Pins }),
		Lanes:    lanesOf(s),
		Holders:  holdersOf(s),
		Events:   eventsOf(n),
		interval: time.Duration(v.IntervalSeconds * float64(time.Second)),
	}
	if !n.Since.IsZero() {
		nv.StateSeconds = max(0, v.At.Sub(n.Since).Seconds())
	}
	return nv
}

// errorOf is the text of an error of the node's, if it may be shown.
func errorOf(n *pooler.NodeStatus, text string) string {
	if text != "" && safeaddr.Of(n.Addr) != n.Addr {
		return errorHidden
	}
	return text
}

// errorHidden stands for the error of a dial to what is no address but a URL, or the like:
// the network's errors repeat it, a password included.
const errorHidden = "the error isn't shown, since the address has more in it than host and port"
