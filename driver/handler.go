package driver

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/everpool/everpool/internal/safeaddr"
)

// Handler tells readiness probes how the driver's nodes are, as [Driver.Health] judges
// them, but from what is known: it doesn't block. Nodes without traffic are asked in the
// background, for the next answer. The answer is 200 if all that clients use is served,
// else 503, in either case with JSON that has no credentials:
//
//	{"healthy": true, "nodes": [{"addr": "10.0.0.1:6379", "state": "up", "since": "2006-01-02T15:04:05Z"}]}
//
// A node may have a role ("master", "replica", "sentinel", "shard") and slots, be silent
// (it owes replies), and have the error of its last dial. Addresses aren't secret: serve
// it where they may be seen. It is safe for concurrent use, and outlives the driver: that
// of a closed one answers 503.
func (d *Driver) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := d.usable(); err != nil {
			respond(w, report{Error: err.Error()})
			return
		}
		services := d.services()
		respond(w, report{Healthy: verdict(services, knownState) == nil, Nodes: nodeReports(d.Nodes())})
		d.heedServices(services)
	})
}

// report is what handlers answer.
type report struct {
	Healthy bool           `json:"healthy"`
	Error   string         `json:"error,omitempty"`
	Clients []clientReport `json:"clients,omitempty"`
	Nodes   []nodeReport   `json:"nodes,omitempty"`
}

type clientReport struct {
	Name     string       `json:"name"`
	Kind     string       `json:"kind"`
	URL      string       `json:"url"`
	Healthy  bool         `json:"healthy"`
	Degraded bool         `json:"degraded,omitempty"`
	Nodes    []nodeReport `json:"nodes"`
}

type nodeReport struct {
	Addr   string    `json:"addr"`
	State  string    `json:"state"`
	Since  time.Time `json:"since,omitzero"`
	Role   string    `json:"role,omitempty"`
	Slots  int       `json:"slots,omitempty"`
	Silent bool      `json:"silent,omitempty"`
	Error  string    `json:"error,omitempty"`
}

func nodeReports(nodes []NodeStatus) []nodeReport {
	all := make([]nodeReport, 0, len(nodes))
	for _, n := range nodes {
		all = append(all, nodeReport{
			Addr: safeaddr.Of(n.Addr), State: n.State.String(), Since: n.Since,
			Role: n.Role, Slots: n.Slots.Count(), Silent: n.Silent, Error: n.Stats.LastDialError,
		})
	}
	return all
}

// respond writes the report, with the status that probes go by.
func respond(w http.ResponseWriter, r report) {
	body, err := json.Marshal(r)
	if err != nil { // which nothing in a report gives reason for
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !r.Healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(body, '\n'))
}
