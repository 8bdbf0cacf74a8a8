package debugpage_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/debugpage"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/pooler"
)

// made is a source of nodes that tests make up.
type made struct{ nodes []pooler.NodeStatus }

func (m *made) Nodes() []pooler.NodeStatus { return slices.Clone(m.nodes) }

const addr = "10.0.0.1:6379"

// node returns a node that is up with nothing to say, changed.
func node(change func(n *pooler.NodeStatus)) pooler.NodeStatus {
	n := pooler.NodeStatus{
		Network: "tcp", Addr: addr, Handles: 8, State: pooler.StateUp, Since: time.Now().Add(-12 * time.Second),
		Stats: pooler.Stats{MaxOpenConnections: 10, OpenConnections: 4, InUse: 3, Idle: 1, Lanes: 2, Admitted: 1234567, Answered: 1234567},
	}
	change(&n)
	return n
}

func asIs(*pooler.NodeStatus) {}

func source(name string, nodes ...pooler.NodeStatus) debugpage.Source {
	return debugpage.Source{Name: name, Nodes: &made{nodes}}
}

// report is the JSON, as far as tests look at it.
type report struct {
	IntervalSeconds float64 `json:"interval_seconds"`
	Well            bool
	Findings        []finding
	Sources         []struct {
		Name, Error string
		Clients     []struct {
			Name, Kind string
			Nodes      []struct {
				Addr, State   string
				LastDialError string  `json:"last_dial_error"`
				OldestWaiter  float64 `json:"oldest_waiter_seconds"`
				Sockets       map[string]int
				Counters      map[string]count
				Closes, Pins  map[string]count
				Slots         int
				SlotRanges    string `json:"slot_ranges"`
				Lanes         []laneReport
				Holders       []struct {
					What   string
					Conns  int
					Oldest float64 `json:"oldest_seconds"`
				}
				Events []struct {
					What, Error string
					Times       int
					First, Last time.Time
				}
			}
		}
		Settings []struct {
			Nodes  []string
			Values []struct{ Name, Value string }
		}
		HotKeys []struct{ Class, Key string } `json:"hot_keys"`
	}
}

type laneReport struct {
	Conn           uint64
	InFlight       int `json:"in_flight"`
	Forsaken       int
	Oldest         float64 `json:"oldest_seconds"`
	Silence        float64 `json:"silence_seconds"`
	UnwrittenBytes int     `json:"unwritten_bytes"`
	Entering       int
	Yielding       bool
}

type finding struct {
	Rule, Severity, Text string
	Of                   []string
}

type count struct {
	Total     int64
	Grown     *int64
	PerSecond *float64 `json:"per_second"`
}

// ask asks the handler, and returns what it answers.
func ask(t *testing.T, h http.Handler, method, target string, accept ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for _, a := range accept {
		r.Header.Add("Accept", a)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func page(t *testing.T, h http.Handler) string {
	t.Helper()
	w := ask(t, h, http.MethodGet, "/debug/everpool")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	return w.Body.String()
}

func asJSON(t *testing.T, h http.Handler) (r report) {
	t.Helper()
	w := ask(t, h, http.MethodGet, "/debug/everpool?format=json")
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
	}
	return r
}

// Each rule finds what it is for, and nothing else finds it; where the numbers are just
// within what is well, nothing is found. The page says the same as the JSON.
func TestEachRuleFindsWhatItIsFor(t *testing.T) {
	for name, c := range map[string]struct {
		before, after func(n *pooler.NodeStatus)
		want          []string // rule, severity, text; none: all is well
	}{
		"nothing is wrong": {asIs, asIs, nil},
		"work goes on": {asIs, func(n *pooler.NodeStatus) {
			n.Stats.Admitted += 1000
			n.Stats.Answered += 990
			n.Stats.Abandoned += 10 // a percent
			n.Stats.Dials += 5      // one a second
			n.Stats.Waiting, n.Stats.OldestWaiter = 3, 99*time.Millisecond
			n.Stats.Closes = map[pooler.CloseReason]int64{pooler.CloseIdle: 5}
		}, nil},
		"a node is down": {asIs, func(n *pooler.NodeStatus) {
			n.State, n.Since = pooler.StateDown, time.Now().Add(-12*time.Second)
			n.Stats.LastDialError = "dial tcp 10.0.0.1:6379: connect: connection refused"
			n.Stats.Waiting, n.Stats.Awaiting, n.Stats.OldestWaiter = 10, 30, time.Second
		}, []string{"down", "bad", "10.0.0.1:6379 has been down for 12 s: connection refused; 40 requests wait"}},
		"a node is suspected": {asIs, func(n *pooler.NodeStatus) {
			n.State, n.Since = pooler.StateSuspect, time.Now().Add(-200*time.Millisecond)
			n.Stats.Awaiting = 1
		}, []string{"suspect", "warning", "10.0.0.1:6379 has been suspected to be away for 200 ms; 1 request waits"}},
		"a node is silent": {asIs, func(n *pooler.NodeStatus) {
			n.Silent, n.Stats.OldestExchange = true, 3*time.Second
		}, []string{"silent", "bad", "10.0.0.1:6379 owes replies and answers no new connection either, the oldest request is 3 s old: the server stands still, or the network drops packets"}},
		"the pool is full": {asIs, func(n *pooler.NodeStatus) {
			n.Stats.OpenConnections, n.Stats.InUse, n.Stats.Idle, n.Stats.Pinned = 11, 11, 0, 8
			n.Stats.Streams = 1
			n.Stats.Pins = map[string]int64{"multi": 3, "pubsub": 70, "reply": 900, "watch": 1}
			n.Stats.Waiting, n.Stats.OldestWaiter = 2, 1300*time.Millisecond
		}, []string{"waiting", "warning", "10.0.0.1:6379 is up, but 2 requests wait for a connection, the oldest for 1.3 s: all 10 are open, 7 of them pinned: blocking commands, transactions and the like (so far mostly reply, pubsub, multi) hold them. Raise MaxOpenConns, or have fewer of these"}},
		"there is room, and no dial": {asIs, func(n *pooler.NodeStatus) {
			n.Stats.Waiting, n.Stats.OldestWaiter = 1, 100*time.Millisecond
		}, []string{"waiting", "warning", "10.0.0.1:6379 is up, but 1 request waits for a connection, the oldest for 100 ms: 4 connections open, below the bound: no dial is under way, or MaxOpenConnsTotal bounds all nodes together"}},
		"connections are being opened": {asIs, func(n *pooler.NodeStatus) {
			n.Stats.MaxOpenConnections, n.Stats.Dialing = -1, 2
			n.Stats.Waiting, n.Stats.OldestWaiter = 1, 2*time.Minute
		}, []string{"waiting", "warning", "10.0.0.1:6379 is up, but 1 request waits for a connection, the oldest for 2 min: 4 connections open, 2 dials under way"}},
		"requests give up waiting": {asIs, func(n *pooler.NodeStatus) {
			n.Stats.OpenConnections, n.Stats.InUse, n.Stats.Lanes, n.Stats.Draining, n.Stats.Idle = 10, 10, 1, 6, 0
			n.Stats.WaitTimeouts, n.Stats.Failed, n.Stats.Admitted = 4, 4, n.Stats.Admitted+4
		}, []string{"wait_timeouts", "bad", "10.0.0.1:6379 is up, but 4 requests gave up waiting for a connection in the last 5 s: all 10 are open, 6 of them draining: they wait for late replies of a slow server. Raise MaxOpenConns, or have fewer of these"}},
		"connections don't live": {func(n *pooler.NodeStatus) {
			n.Stats.Closes = map[pooler.CloseReason]int64{pooler.CloseIdle: 900, pooler.ClosePeer: 10}
		}, func(n *pooler.NodeStatus) {
			n.Stats.Dials = 6
			n.Stats.Closes = map[pooler.CloseReason]int64{pooler.CloseIdle: 900, pooler.ClosePeer: 15, pooler.CloseRead: 1}
		}, []string{"churn", "warning", "10.0.0.1:6379 is up, but 1.2 connections a second are opened and closed again: peer_closed 5, read_error 1"}},
		"the pool grows": {asIs, func(n *pooler.NodeStatus) {
			n.Stats.Dials, n.Stats.Closes = 60, map[pooler.CloseReason]int64{pooler.CloseIdle: 5}
		}, nil},
		"outcomes are unknown": {func(n *pooler.NodeStatus) { n.Stats.Unknown, n.Stats.Failed = 7, 7 }, func(n *pooler.NodeStatus) {
			n.Stats.Unknown, n.Stats.Failed = 9, 9
		}, []string{"unknown_outcomes", "bad", "10.0.0.1:6379 has left 2 requests with an unknown outcome in the last 5 s: they were sent, and the replies were lost or late. The program has to find out whether they ran"}},
		"the server is slow": {asIs, func(n *pooler.NodeStatus) {
			n.Stats.Abandoned, n.Stats.Answered, n.Stats.OldestExchange = 1100, n.Stats.Answered+98900, 700*time.Millisecond
		}, []string{"abandoned", "warning", "10.0.0.1:6379 is slow, or timeouts are too short: callers left 1,100 of 100,000 requests in the last 5 s before the replies came; the oldest under way is 700 ms old"}},
		"requests fail": {
			asIs, func(n *pooler.NodeStatus) { n.Stats.Failed = 3 },
			[]string{"failed", "warning", "10.0.0.1:6379 is up, but 3 requests failed in the last 5 s: refused, never sent, or lost"},
		},
		"the node comes and goes": {
			asIs, func(n *pooler.NodeStatus) { n.Stats.Heals = 2 },
			[]string{"flapping", "warning", "10.0.0.1:6379 was away and came back 2 times in the last 5 s"},
		},
		"the node comes back": {asIs, func(n *pooler.NodeStatus) {
			n.Stats.Heals, n.Stats.Dials, n.Stats.Closes = 1, 60, map[pooler.CloseReason]int64{pooler.ClosePeer: 20}
		}, []string{"flapping", "warning", "10.0.0.1:6379 was away and came back 1 time in the last 5 s"}},
		"it isn't Redis": {asIs, func(n *pooler.NodeStatus) {
			n.Stats.Closes = map[pooler.CloseReason]int64{pooler.CloseProtocol: 1, pooler.CloseUnasked: 1}
		}, []string{"protocol", "bad", "10.0.0.1:6379 has sent what is no reply, or none that was asked for: 2 connections closed in the last 5 s. It is no Redis server, or a proxy in between is broken"}},
		"logins were refused": {asIs, func(n *pooler.NodeStatus) {
			n.Stats.Closes = map[pooler.CloseReason]int64{pooler.CloseSessionLost: 1}
		}, []string{"login", "bad", "10.0.0.1:6379 has refused 1 login in the last 5 s: wrong credentials, or a password that was rotated"}},
		"the login is refused": {
			asIs, func(n *pooler.NodeStatus) { n.Stats.LastDialError = "WRONGPASS invalid username-password pair" },
			[]string{"login", "bad", "10.0.0.1:6379 refuses the login: WRONGPASS invalid username-password pair"},
		},
		"a dial fails while the node is up": {
			asIs, func(n *pooler.NodeStatus) { n.Stats.LastDialError = "ERR max number of clients reached" },
			[]string{"dial_error", "warning", "10.0.0.1:6379 is up, but the last connection couldn't be opened: ERR max number of clients reached"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				of := &made{[]pooler.NodeStatus{node(c.before)}}
				h := debugpage.Handler(debugpage.Source{Nodes: of})
				if r := asJSON(t, h); !r.Well {
					t.Fatalf("before: %+v", r.Findings)
				}
				time.Sleep(5 * time.Second)
				of.nodes[0] = node(c.before)
				c.after(&of.nodes[0])
				r, html := asJSON(t, h), page(t, h)
				if c.want == nil {
					if !r.Well || len(r.Findings) != 0 || !strings.Contains(html, "All well") {
						t.Errorf("%+v", r)
					}
					return
				}
				if len(r.Findings) != 1 || r.Well {
					t.Fatalf("%+v", r.Findings)
				}
				if f := r.Findings[0]; !slices.Equal([]string{f.Rule, f.Severity, f.Text}, c.want) {
					t.Errorf("%q\nwant %q", f, c.want)
				}
				if !strings.Contains(plain(html), c.want[2]) || !strings.Contains(html, `<section class="verdict `+c.want[1]+`">`) || strings.Contains(html, "All well") {
					t.Errorf("the page doesn't say so:\n%s", plain(html))
				}
			})
		})
	}
}

var tags = regexp.MustCompile(`(?s)<style>.*</style>|<[^>]*>`)

// plain is what is to be read on a page.
func plain(html string) string {
	return strings.NewReplacer("&#39;", "'", "&lt;", "<", "&gt;", ">", "&#34;", `"`, "&amp;", "&").Replace(tags.ReplaceAllString(html, ""))
}

// The worst is said first.
func TestTheWorstComesFirst(t *testing.T) {
	h := debugpage.Handler(
		source("a", node(func(n *pooler.NodeStatus) { n.State = pooler.StateSuspect })),
		source("b", node(func(n *pooler.NodeStatus) { n.Silent = true })),
		source("c", node(func(n *pooler.NodeStatus) { n.State = pooler.StateDown })),
		debugpage.Source{Name: "d"},
	)
	var got []string
	for _, f := range asJSON(t, h).Findings {
		got = append(got, f.Rule)
	}
	if want := []string{"source", "down", "silent", "suspect"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if html := page(t, h); !strings.Contains(html, "4 things are wrong") || strings.Index(html, "is down") > strings.Index(html, "is suspected") {
		t.Error(plain(html))
	}
}

// Rates are of the time since the request before, and of a second at least, whoever asks
// in between; what is counted anew counts from nothing.
func TestRatesAreOfTheTimeBetweenRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := &made{[]pooler.NodeStatus{node(asIs)}}
		h := debugpage.Handler(debugpage.Source{Nodes: of})
		answered := func() (interval float64, c count) {
			r := asJSON(t, h)
			return r.IntervalSeconds, r.Sources[0].Clients[0].Nodes[0].Counters["answered"]
		}
		if i, c := answered(); i != 0 || c.Grown != nil || c.PerSecond != nil || c.Total != 1234567 {
			t.Errorf("at first: %v %+v", i, c)
		}
		if html := page(t, h); !strings.Contains(html, "come with the next look") || !strings.Contains(html, "<td>1,234,567</td><td>–</td>") {
			t.Error(plain(html))
		}
		check := func(when string, interval float64, grown int64) {
			t.Helper()
			i, c := answered()
			if i != interval || c.Grown == nil || *c.Grown != grown || *c.PerSecond != float64(grown)/interval {
				t.Errorf("%s: %v s, %+v; want %v s, %d", when, i, c, interval, grown)
			}
		}
		time.Sleep(4 * time.Second)
		of.nodes[0].Stats.Answered += 10_000
		check("after 4 s", 4, 10_000)
		time.Sleep(500 * time.Millisecond)
		of.nodes[0].Stats.Answered += 8_000
		check("half a second later, by another reader", 4.5, 18_000)
		if html := page(t, h); !strings.Contains(html, "<td>1,252,567</td><td>4,000</td>") || !strings.Contains(html, "Rates are of the last 4.5 s.") {
			t.Error(plain(html))
		}
		time.Sleep(500 * time.Millisecond)
		check("after a second", 1, 8_000)
		time.Sleep(10 * time.Second)
		of.nodes[0].Stats.Answered = 5
		check("the pool was made anew", 10, 5)
		of.nodes[0].Addr = "10.0.0.2:6379"
		if _, c := answered(); c.Grown != nil {
			t.Errorf("a node that wasn't there: %+v", c)
		}
	})
}

// Sockets by use, reasons and ages are there, in JSON and on the page.
func TestAllThatIsKnownIsShown(t *testing.T) {
	n := node(func(n *pooler.NodeStatus) {
		n.TLS, n.Topology, n.Role, n.Slots = true, "cluster", "master", pooler.Slots{{0, 5000}, {5010, 5469}}
		s := &n.Stats
		s.MaxOpenConnections, s.OpenConnections, s.InUse, s.Idle = 2000, 1012, 1000, 12
		s.Lanes, s.Draining, s.Pinned, s.Streams, s.Dialing = 4, 6, 40, 2, 3
		s.InFlight, s.Sessions, s.OldestExchange = 4321, 5, 2500*time.Millisecond
		s.Closes = map[pooler.CloseReason]int64{pooler.CloseIdle: 11, pooler.ClosePeer: 4100}
		s.Pins = map[string]int64{"client-id": 77}
		s.LaneStats = []pooler.LaneStats{
			{Conn: 3, InFlight: 2047, Forsaken: 64, Oldest: 90 * time.Second, Silence: 5 * time.Second, Unwritten: 70000, Entering: 17},
			{Conn: 1009, InFlight: 1, Yielding: true},
		}
		n.Settings = pooler.Config{MaxOpenConns: 2000, ConnMaxIdleTime: -1, FailFastAfter: -1}.LogValue().Group()
		s.Holders = []pooler.Holder{{What: "BLPOP <b>", Conns: 900, Oldest: 95 * time.Second}}
		n.Events = []pooler.Happening{
			{Event: pooler.Event{Kind: pooler.EventDial, Time: time.Unix(90, 0), Err: errors.New("<i>refused")}, First: time.Unix(60, 0), Times: 1234},
			{Event: pooler.Event{Kind: pooler.EventState, State: pooler.StateUp, Time: time.Unix(100, 0), Duration: 40 * time.Second}, First: time.Unix(100, 0), Times: 1},
		}
	})
	h := debugpage.Handler(debugpage.Source{
		Name: "shop", Nodes: &made{[]pooler.NodeStatus{n, node(asIs)}}, HotKeys: debugpage.TopKeys(top, hotKey, hotkey.Reads, hotkey.Writes), HotKeysURL: "/debug/hotkeys?n=5&sort=key",
	})
	r := asJSON(t, h)
	got := r.Sources[0].Clients[0].Nodes[0]
	for use, want := range map[string]int{"open": 1012, "max": 2000, "idle": 12, "shared": 4, "draining": 6, "pinned": 40, "used": 950, "streams": 2, "dialing": 3} {
		if got.Sockets[use] != want {
			t.Errorf("%s: %d, want %d", use, got.Sockets[use], want)
		}
	}
	if got.Closes["peer_closed"].Total != 4100 || got.Pins["client-id"].Total != 77 || len(got.Counters) != 16 {
		t.Errorf("%+v", got)
	}
	if l := got.Lanes; len(l) != 2 || l[0] != (laneReport{3, 2047, 64, 90, 5, 70000, 17, false}) || l[1] != (laneReport{Conn: 1009, InFlight: 1, Yielding: true}) {
		t.Errorf("shared connections: %+v", l)
	}
	if got.Slots != 5461 || got.SlotRanges != "0-5000, 5010-5469" {
		t.Errorf("%d slots: %s", got.Slots, got.SlotRanges)
	}
	if len(got.Holders) != 1 || got.Holders[0].Conns != 900 || got.Holders[0].Oldest != 95 {
		t.Errorf("held by %+v", got.Holders)
	}
	if e := got.Events; len(e) != 2 || e[0].What != "up again, after 40 s" || e[1].Times != 1234 || e[1].Error != "<i>refused" || e[1].Last.Sub(e[1].First) != 30*time.Second {
		t.Errorf("happened: %+v", e)
	}
	if k := r.Sources[0].HotKeys; len(k) != 2 || k[0].Class != "reads" || k[1].Key != "<b>writes</b>" {
		t.Errorf("%+v", k)
	}
	html := page(t, h)
	for _, want := range []string{
		"BLPOP <b>9001 min 35 s", "a dial failed (<i>refused)1,2341970-01-01 00:01:30", "up again, after 40 s11970-01-01 00:01:40", "1,012 open, at most 2,000; 2 of them beyond the bound", "used 950", "pinned 40", "cluster, master of 5,461 slots, tcp, TLS",
		"4,321", "2.5 s", "peer closed4,100", "client-id77", "1,010 of 2,000 + 2", "reads", "<b>writes</b>", "MaxOpenConns2000", "ConnMaxIdleTimeoff", "FailFastAfternever", "WaitTimeout5s",
		"connection 32,047641 min 30 s5 s70,00017", "connection 1,009 takes no more, and is given back10new–00", "slots0-5000, 5010-5469",
	} {
		if !strings.Contains(plain(html), want) {
			t.Errorf("no %q on the page:\n%s", want, plain(html))
		}
	}
	for _, want := range []string{`href="/debug/hotkeys?n=5&amp;sort=key"`, `<a href="#node1">`, `id="node2"`} {
		if !strings.Contains(html, want) {
			t.Errorf("no %s", want)
		}
	}
}

// Settings are shown once for all nodes that have the same, with the names of the nodes
// where others have others.
func TestSettingsAreOfTheNodesThatHaveThem(t *testing.T) {
	var nodes []pooler.NodeStatus
	for i := range 9 {
		nodes = append(nodes, node(func(n *pooler.NodeStatus) {
			n.Addr = fmt.Sprintf("10.0.0.%d:6379", i)
			n.Settings = pooler.Config{MaxOpenConns: 10 + i/8}.LogValue().Group() // the last one has another
		}))
	}
	alike, all := debugpage.Handler(source("", nodes[:8]...)), debugpage.Handler(source("", nodes...))
	if html := plain(page(t, alike)); strings.Count(html, "MaxOpenConns10") != 1 || strings.Contains(html, "Settings of") {
		t.Error(html)
	}
	html := plain(page(t, all))
	for _, want := range []string{"Settings of 10.0.0.0:6379, 10.0.0.1:6379, 10.0.0.2:6379, 10.0.0.3:6379, 10.0.0.4:6379 and 3 more", "MaxOpenConns10", "Settings of 10.0.0.8:6379", "MaxOpenConns11"} {
		if strings.Count(html, want) != 1 {
			t.Errorf("%q isn't there once:\n%s", want, html)
		}
	}
	if s := asJSON(t, all).Sources[0].Settings; len(s) != 2 || len(s[0].Nodes) != 8 || !slices.Equal(s[1].Nodes, []string{"10.0.0.8:6379"}) || s[1].Values[0].Value != "11" {
		t.Errorf("%+v", s)
	}
}

// Of a node with hundreds of shared connections those are shown whose requests are oldest.
func TestOfManyLanesTheWorstAreShown(t *testing.T) {
	n := node(func(n *pooler.NodeStatus) {
		for i := range 40 {
			n.Stats.LaneStats = append(n.Stats.LaneStats, pooler.LaneStats{Conn: uint64(i + 1), InFlight: 1, Oldest: time.Duration(i) * time.Second})
		}
	})
	h := debugpage.Handler(source("", n))
	html := plain(page(t, h))
	if !strings.Contains(html, "connection 401039 s") || !strings.Contains(html, "connection 25") || strings.Contains(html, "connection 24") || !strings.Contains(html, "And 24 more, whose requests are younger.") {
		t.Error(html)
	}
	if l := asJSON(t, h).Sources[0].Clients[0].Nodes[0].Lanes; len(l) != 40 {
		t.Errorf("%d in JSON", len(l))
	}
}

// top is a tracker's Top.
func top(class hotkey.Class, n int) []hotkey.Count {
	return []hotkey.Count{{Key: "<b>" + class.String() + "</b>", Rate: 1e4, Share: 0.25}}[:min(n, 1)]
}

func hotKey(c hotkey.Count) debugpage.HotKey {
	return debugpage.HotKey{Key: c.Key, PerSecond: c.Rate, Share: c.Share}
}

// Sources are told apart, and so are nodes of the same address in them.
func TestTwoSourcesAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &made{[]pooler.NodeStatus{node(asIs)}}, &made{[]pooler.NodeStatus{node(asIs), node(asIs)}}
		h := debugpage.Handler(debugpage.Source{Name: "orders", Nodes: a}, debugpage.Source{Name: "users", Nodes: b})
		page(t, h)
		time.Sleep(time.Second)
		a.nodes[0].Stats.Unknown, b.nodes[0].Stats.Unknown, b.nodes[1].Stats.Unknown = 1, 2, 3
		r := asJSON(t, h)
		var got []int64
		for _, s := range r.Sources {
			for _, n := range s.Clients[0].Nodes {
				got = append(got, *n.Counters["unknown_outcomes"].Grown)
			}
		}
		if !slices.Equal(got, []int64{1, 2, 3}) || len(r.Findings) != 3 || !slices.Equal(r.Findings[0].Of, []string{"orders"}) || !slices.Equal(r.Findings[2].Of, []string{"users"}) {
			t.Errorf("%v, %+v", got, r.Findings)
		}
		if html := page(t, h); !strings.Contains(html, "<h2>orders</h2>") || !strings.Contains(html, "<h2>users</h2>") {
			t.Error(plain(html))
		}
	})
}

// Whatever names, addresses and errors are made of, they are text.
func TestWhatIsHostileIsText(t *testing.T) {
	const evil = `"><script>alert('x')</script><!--`
	n := node(func(n *pooler.NodeStatus) {
		n.Addr, n.Network, n.Topology, n.Role = evil+":1", evil, evil, evil
		n.Stats.LastDialError = evil + "\u202e\x00\n"
		n.Stats.Closes = map[pooler.CloseReason]int64{evil: 1}
		n.Stats.Pins = map[string]int64{evil: 1}
		n.Settings = []slog.Attr{slog.String(evil+"\u202e", evil+"\u202e")}
		n.Stats.Waiting, n.Stats.OldestWaiter, n.Stats.Pinned, n.Stats.InUse, n.Stats.OpenConnections = 1, time.Second, 10, 10, 10
	})
	h := debugpage.Handler(
		debugpage.Source{Name: evil, Nodes: &made{[]pooler.NodeStatus{n, n}}, HotKeysURL: evil, HotKeys: func(int) []debugpage.HotKey { return []debugpage.HotKey{{Class: evil, Key: evil + "\u202e"}} }},
		debugpage.Source{Name: evil, Clients: func() []debugpage.Client {
			return []debugpage.Client{{Name: evil, Kind: evil, Nodes: []pooler.NodeStatus{n}}}
		}},
	)
	html := page(t, h)
	plainAddr := node(func(n *pooler.NodeStatus) { n.Stats.LastDialError = evil + "\u202e\x00\n" })
	html += page(t, debugpage.Handler(source("\u202e\x00", plainAddr)))
	for _, not := range []string{"<script", "<!--", "alert('x')", "\u202e", "\x00", `""><`} {
		if strings.Contains(html, not) {
			t.Errorf("%q is on the page", not)
		}
	}
	if !strings.Contains(html, "&lt;script&gt;") {
		t.Error("it isn't shown at all")
	}
	if csp := ask(t, h, http.MethodGet, "/").Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Error(csp)
	}
	asJSON(t, h)
}

// A URL in the place of an address shows no password: neither its own, nor the one in the
// error that the network has made of it.
func TestAURLShowsNoPassword(t *testing.T) {
	for _, u := range []string{"redis://user:hunter2@10.0.0.1:6379/0", "redis://:hunter2@10.0.0.1:1?password=hunter2", "unix://u:hunter2@/run/r.sock", "u:hunter2@h:1"} {
		n := node(func(n *pooler.NodeStatus) {
			n.Addr, n.State = u, pooler.StateDown
			n.Stats.LastDialError = "dial tcp: address " + u + ": too many colons in address"
		})
		h := debugpage.Handler(source("", n))
		for _, format := range []string{"html", "json"} {
			body := ask(t, h, http.MethodGet, "/?format="+format).Body.String()
			if strings.Contains(body, "hunter2") || !strings.Contains(plain(body), "has been down") {
				t.Errorf("%s, %s:\n%s", u, format, plain(body))
			}
		}
		if v := debugpage.Var(source("", n)).String(); strings.Contains(v, "hunter2") {
			t.Error(v)
		}
	}
}

func TestOnlyGetAndHeadAreServed(t *testing.T) {
	h := debugpage.Handler(source("", node(asIs)))
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "NONSENSE"} {
		if w := ask(t, h, method, "/"); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
	w := ask(t, h, http.MethodHead, "/")
	if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("HEAD: %d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
}

// What is asked for is given, and what isn't allowed is refused by name.
func TestWhatIsAskedForIsGiven(t *testing.T) {
	h := debugpage.Handler(source("", node(asIs)))
	const refresh = `<meta http-equiv="refresh" content="`
	for target, want := range map[string]string{"/": refresh + `5"`, "/?refresh=30": refresh + `30"`, "/?format=html&refresh=1": refresh + `1"`} {
		if html := ask(t, h, http.MethodGet, target).Body.String(); !strings.Contains(html, want) || !strings.Contains(html, `href="?refresh=0"`) {
			t.Errorf("%s: no %s", target, want)
		}
	}
	if html := ask(t, h, http.MethodGet, "/?refresh=0").Body.String(); strings.Contains(html, refresh) || !strings.Contains(html, `href="?refresh=5"`) {
		t.Error("it refreshes though it shouldn't")
	}
	for target, want := range map[string]string{
		"/?refresh=-1": `refresh is "-1"; allowed is 0 to 3600`, "/?refresh=3601": "refresh is", "/?refresh=x": "refresh is",
		"/?format=xml&refresh=x": `format is "xml"; allowed are html, json`,
	} {
		w := ask(t, h, http.MethodGet, target)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	for accept, want := range map[string]string{
		"application/json": "application/json", "text/html,application/json;q=0.9": "text/html; charset=utf-8", "*/*": "text/html; charset=utf-8", "": "text/html; charset=utf-8",
	} {
		if got := ask(t, h, http.MethodGet, "/", accept).Header().Get("Content-Type"); got != want {
			t.Errorf("Accept %q: %s", accept, got)
		}
	}
	if got := ask(t, h, http.MethodGet, "/?format=html", "application/json").Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Error(got)
	}
}

// explosive panics with what nobody should see.
type explosive struct{}

func (explosive) Nodes() []pooler.NodeStatus { panic("redis://:hunter2@h:1") }

// What is wrong with a source is said, and the others are shown.
func TestAWrongSourceIsToldOf(t *testing.T) {
	good := &made{[]pooler.NodeStatus{node(asIs)}}
	for name, c := range map[string]struct {
		source debugpage.Source
		want   string
	}{
		"panics":           {debugpage.Source{Nodes: explosive{}}, "source 1 can't be read: reading its nodes has panicked with a string"},
		"gathering panics": {debugpage.Source{Nodes: good, Gathering: func() debugpage.Gathered { panic("hunter2") }}, "source 1 can't be read: reading what it has gathered has panicked with a string"},
		"keys panic":       {debugpage.Source{Nodes: good, HotKeys: func(int) []debugpage.HotKey { panic("hunter2") }}, "source 1 can't be read: reading its hot keys has panicked with a string"},
		"clients panic":    {debugpage.Source{Clients: func() []debugpage.Client { panic("hunter2") }}, "has panicked"},
		"nothing":          {debugpage.Source{}, "one of Nodes and Clients has to be set"},
		"a nil pointer":    {debugpage.Source{Nodes: (*made)(nil)}, "one of Nodes and Clients has to be set"},
		"both":             {debugpage.Source{Nodes: good, Clients: func() []debugpage.Client { return nil }}, "one of Nodes and Clients has to be set"},
		"with a name":      {debugpage.Source{Name: "shop"}, "source 1 can't be read"},
		"keys, no nodes":   {debugpage.Source{HotKeys: debugpage.TopKeys(top, hotKey, hotkey.Reads, hotkey.Writes)}, "source 1 can't be read"},
	} {
		h := debugpage.Handler(c.source, source("good", node(asIs)))
		r, html := asJSON(t, h), page(t, h)
		if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Text, c.want) || len(r.Sources[1].Clients) != 1 {
			t.Errorf("%s: %+v", name, r.Findings)
		}
		if !strings.Contains(plain(html), c.want) || !strings.Contains(html, addr) || strings.Contains(html, "hunter2") {
			t.Errorf("%s:\n%s", name, plain(html))
		}
	}
	if html := page(t, debugpage.Handler()); !strings.Contains(html, "All well") {
		t.Error(plain(html))
	}
	if html := page(t, debugpage.Handler(source("new"))); !strings.Contains(html, "No client has asked for a node yet.") {
		t.Error(plain(html))
	}
}

// A variable is one line of JSON, with rates of its own.
func TestAVariableIsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := debugpage.Var(source("shop", node(asIs)))
		for _, interval := range []float64{0, 7} {
			var r report
			if err := json.Unmarshal([]byte(v.String()), &r); err != nil || strings.Contains(v.String(), "\n") {
				t.Fatal(err, v)
			}
			if r.IntervalSeconds != interval || r.Sources[0].Clients[0].Nodes[0].Addr != addr {
				t.Errorf("%+v", r)
			}
			time.Sleep(7 * time.Second)
		}
	})
}

// expvar serves /debug/vars to whoever can reach http.DefaultServeMux. With a package of
// templates, which calls methods by name, the linker keeps every exported method of every
// type in the program.
func TestNothingIsLinkedThatProgramsDontWant(t *testing.T) {
	deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(deps)) {
		if dep = strings.TrimSpace(dep); dep == "expvar" || strings.HasSuffix(dep, "/template") || strings.HasSuffix(dep, "/driver") {
			t.Errorf("%s is linked", dep)
		}
	}
}
