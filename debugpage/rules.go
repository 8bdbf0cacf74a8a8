package debugpage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/everpool/everpool/pooler"
)

// finding is something that is wrong.
type finding struct {
	Rule     string   `json:"rule"`
	Severity severity `json:"severity"`
	Text     string   `json:"text"`
	Of       []string `json:"of,omitempty"` // the sources and clients that it is of, where they have names
}

type severity string

const (
	bad     severity = "bad"     // calls fail, or are about to
	warning severity = "warning" // something that shouldn't be
)

// rule finds one thing that may be wrong with a node. says is what is wrong, behind the
// node's name; "" if nothing is.
type rule struct {
	name     string
	severity severity
	says     func(*nodeView) string
}

// What is enough to be told of. Rates and shares are those of docs/dashboards/alerts.yml.
const (
	longWait       = 100 * time.Millisecond // of a request for a connection, while the node is up
	manyDials      = 1.0                    // a second
	manyAbandoned  = 0.01                   // of the requests
	fewestRequests = 2                      // that are abandoned at a time before it is the server
)

var (
	up      = pooler.StateUp.String()
	suspect = pooler.StateSuspect.String()
	down    = pooler.StateDown.String()
)

// rules are all that is looked for, the worst first.
var rules = []rule{
	{"down", bad, func(n *nodeView) string { return n.away(down, "has been down for") }},
	{"suspect", warning, func(n *nodeView) string { return n.away(suspect, "has been suspected to be away for") }},
	{"silent", bad, func(n *nodeView) string {
		if !n.Silent || n.State != up {
			return ""
		}
		return fmt.Sprintf("owes replies and answers no new connection either, the oldest request is %s old: the server stands still, or the network drops packets",
			lasting(time.Duration(n.OldestReply)))
	}},
	{"login", bad, func(n *nodeView) string {
		lost := grown(n.Closes, pooler.CloseSessionLost)
		switch {
		case lost > 0:
			return fmt.Sprintf("has refused %s in the last %s: wrong credentials, or a password that was rotated", several(lost, "login"), n.span())
		case n.refused():
			return "refuses the login: " + n.short()
		}
		return ""
	}},
	{"protocol", bad, func(n *nodeView) string {
		closed := grown(n.Closes, pooler.CloseProtocol) + grown(n.Closes, pooler.CloseUnasked)
		if closed == 0 {
			return ""
		}
		return fmt.Sprintf("has sent what is no reply, or none that was asked for: %s closed in the last %s. It is no Redis server, or a proxy in between is broken",
			several(closed, "connection"), n.span())
	}},
	{"wait_timeouts", bad, func(n *nodeView) string {
		late := n.Counters.grown("wait_timeouts")
		if late == 0 || n.State != up {
			return ""
		}
		return fmt.Sprintf("is up, but %s gave up waiting for a connection in the last %s: %s", several(late, "request"), n.span(), n.holders())
	}},
	{"waiting", warning, func(n *nodeView) string {
		if n.State != up || n.Waiting == 0 || time.Duration(n.OldestWaiter) < longWait {
			return ""
		}
		return fmt.Sprintf("is up, but %s %s for a connection, the oldest for %s: %s",
			several(n.Waiting, "request"), verb(n.Waiting, "wait"), lasting(time.Duration(n.OldestWaiter)), n.holders())
	}},
	{"unknown_outcomes", bad, func(n *nodeView) string {
		unknown := n.Counters.grown("unknown_outcomes")
		if unknown == 0 {
			return ""
		}
		return fmt.Sprintf("has left %s with an unknown outcome in the last %s: they were sent, and the replies were lost or late. The program has to find out whether they ran",
			several(unknown, "request"), n.span())
	}},
	{"abandoned", warning, func(n *nodeView) string {
		left := n.Counters.grown("abandoned")
		ended := left + n.Counters.grown("answered") + n.Counters.grown("failed")
		if left < fewestRequests || float64(left) <= manyAbandoned*float64(ended) {
			return ""
		}
		return fmt.Sprintf("is slow, or timeouts are too short: callers left %s of %s in the last %s before the replies came; the oldest under way is %s old",
			grouped(left), several(ended, "request"), n.span(), lasting(time.Duration(n.OldestReply)))
	}},
	{"failed", warning, func(n *nodeView) string {
		failed := n.Counters.grown("failed") - n.Counters.grown("wait_timeouts") - n.Counters.grown("unknown_outcomes")
		if failed <= 0 || n.State != up {
			return ""
		}
		return fmt.Sprintf("is up, but %s failed in the last %s: refused, never sent, or lost", several(failed, "request"), n.span())
	}},
	{"flapping", warning, func(n *nodeView) string {
		heals := n.Counters.grown("heals")
		if heals == 0 {
			return ""
		}
		return fmt.Sprintf("was away and came back %s in the last %s", several(heals, "time"), n.span())
	}},
	// A pool that grows, or comes back from an outage, opens connections too.
	{"churn", warning, func(n *nodeView) string {
		turned := float64(min(n.Counters.grown("dials"), n.closed()))
		if turned <= manyDials*n.interval.Seconds() || n.State != up || n.Counters.grown("heals") > 0 {
			return ""
		}
		return fmt.Sprintf("is up, but %s connections a second are opened and closed again: %s", perSecond(turned/n.interval.Seconds()), n.endings())
	}},
	{"dial_error", warning, func(n *nodeView) string {
		if n.State != up || n.LastDialError == "" || n.refused() {
			return ""
		}
		return "is up, but the last connection couldn't be opened: " + n.short()
	}},
}

// judge finds all that is wrong.
func (v *view) judge() {
	for i, s := range v.Sources {
		if s.Error != "" {
			v.find(finding{"source", bad, fmt.Sprintf("source %d can't be read: %s", i+1, s.Error), nil}, s.Name)
		}
		for _, c := range s.Clients {
			of := owner(s.Name, c.Name)
			if !c.Healthy {
				v.find(finding{"client", bad, c.illness(), nil}, of)
			}
			for _, n := range c.Nodes {
				for _, r := range rules {
					if says := r.says(n); says != "" {
						v.find(finding{r.name, r.severity, n.name() + " " + says, nil}, of)
					}
				}
			}
		}
	}
	rank := func(f finding) int {
		return 1 + slices.IndexFunc(rules, func(r rule) bool { return r.name == f.Rule })
	}
	slices.SortStableFunc(v.Findings, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), cmp.Compare(rank(a), rank(b)))
	})
	v.Well = len(v.Findings) == 0
}

// find adds a finding. What is said of several clients of a node is said once.
func (v *view) find(f finding, of string) {
	i := slices.IndexFunc(v.Findings, func(other finding) bool { return other.Rule == f.Rule && other.Text == f.Text })
	if i < 0 {
		i = len(v.Findings)
		v.Findings = append(v.Findings, f)
	}
	if to := &v.Findings[i].Of; of != "" && !slices.Contains(*to, of) {
		*to = append(*to, of)
	}
}

// owner names a client of a source.
func owner(source, client string) string {
	if source == "" || client == "" {
		return visible(source + client)
	}
	return visible(source + ": " + client)
}

func (c *clientView) illness() string {
	if c.Degraded {
		return fmt.Sprintf("client %s is degraded: only some of its slots are served", visible(c.Name))
	}
	return fmt.Sprintf("client %s isn't healthy: no node serves it", visible(c.Name))
}

// away says how a node that can't be reached is.
func (n *nodeView) away(state, words string) string {
	if n.State != state {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", words, lasting(time.Duration(n.StateSeconds*float64(time.Second))))
	if n.LastDialError != "" {
		b.WriteString(": " + n.short())
	}
	if waiting := n.Waiting + n.Awaiting; waiting > 0 {
		fmt.Fprintf(&b, "; %s %s", several(waiting, "request"), verb(waiting, "wait"))
	}
	return b.String()
}

// refused reports whether the last dial failed since the server refused the login.
func (n *nodeView) refused() bool {
	return slices.ContainsFunc([]string{"WRONGPASS", "NOAUTH", "NOPERM"}, func(s string) bool { return strings.Contains(n.LastDialError, s) })
}

// name is the node's address, or what stands for one that isn't shown.
func (n *nodeView) name() string {
	if n.Addr == "" {
		return "a node without an address that can be shown"
	}
	return visible(n.Addr)
}

// short is the error of the last dial without what names the address again.
func (n *nodeView) short() string {
	_, text, found := strings.Cut(n.LastDialError, n.Addr+": connect: ")
	if !found || n.Addr == "" {
		text = n.LastDialError
	}
	return visible(text)
}

// span is the time that rates are of.
func (n *nodeView) span() string { return lasting(n.interval) }

// holders says what has the connections that requests wait for, and what to do.
func (n *nodeView) holders() string {
	s := n.Sockets
	uses := []struct {
		n         int
		name, say string
	}{
		{s.Pinned - s.Streams, "pinned", "blocking commands, transactions and the like (" + n.pinReasons() + ") hold them"},
		{s.Used, "used", "requests with a connection of their own hold them"},
		{s.Draining, "draining", "they wait for late replies of a slow server"},
		{s.Shared, "shared", "shared connections hold them, which many sessions have"},
		{s.Idle, "idle", "they are idle, of other sessions"},
	}
	most := slices.MaxFunc(uses, func(a, b struct {
		n         int
		name, say string
	},
	) int {
		return cmp.Compare(a.n, b.n)
	})
	bounded := s.Open - s.Streams
	switch {
	case s.Max >= 0 && bounded >= s.Max && most.n > 0:
		return fmt.Sprintf("all %s are open, %s of them %s: %s. Raise MaxOpenConns, or have fewer of these", grouped(s.Max), grouped(most.n), most.name, most.say)
	case s.Dialing > 0:
		return fmt.Sprintf("%s open, %s under way", several(bounded, "connection"), several(s.Dialing, "dial"))
	}
	return fmt.Sprintf("%s open, below the bound: no dial is under way, or MaxOpenConnsTotal bounds all nodes together", several(bounded, "connection"))
}

// pinReasons are why leases have been pinned so far, the most frequent reasons first.
func (n *nodeView) pinReasons() string {
	var words []string
	for _, p := range n.Pins[:min(3, len(n.Pins))] {
		words = append(words, visible(p.Name))
	}
	return "so far mostly " + cmp.Or(strings.Join(words, ", "), "for no known reason")
}

// closed is how many connections were closed since the last look.
func (n *nodeView) closed() (all int64) {
	for _, c := range n.Closes {
		all += n.Closes.grown(c.Name)
	}
	return all
}

// endings are why they were, the most frequent reasons first.
func (n *nodeView) endings() string {
	closed := slices.DeleteFunc(slices.Clone(n.Closes), func(c counter) bool { return c.Grown == nil || *c.Grown == 0 })
	slices.SortStableFunc(closed, func(a, b counter) int { return cmp.Compare(*b.Grown, *a.Grown) })
	var words []string
	for _, c := range closed[:min(3, len(closed))] {
		words = append(words, visible(c.Name)+" "+grouped(*c.Grown))
	}
	return strings.Join(words, ", ")
}

func grown(c counters, reason pooler.CloseReason) int64 { return c.grown(string(reason)) }
