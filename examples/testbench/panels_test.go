package main

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/promcheck"
)

// untold is why go-redis's own pool has no data for a panel.
const untold = "PoolStats of go-redis's own pool doesn't tell"

// noNodes is why there are no attempts.
const noNodes = "its clients are neither of a cluster nor of a ring"

// emptyPanels are those of the dashboard that have no data of a side by nature, each with
// the reason.
var emptyPanels = map[string]map[string]string{
	driverEverpool: {
		"Attempts by node": noNodes, "Redirections": noNodes,
		"Failed handshake commands": "a server refuses none that knows them all: Redis 7.0 refuses CLIENT SETINFO, later ones don't",
	},
	driverStock: {
		"Attempts by node": noNodes, "Redirections": noNodes,
		"Nodes down": untold, "Node up": untold, "Heals": untold, "Mean outage": untold,
		"Requests by result": untold, "Requests in flight": untold, "Oldest exchange": untold, "Oldest waiter": untold,
		"Requests that wait, callers that await the node": untold, "Dials": untold,
		"Unknown outcomes": "it has no such error",
		"Sent once more":   "it doesn't send again; go-redis above it does",
		"Pins by reason":   "each of its connections is one caller's at a time, so that nothing is pinned",
	},
}

// A real Prometheus, with the configuration that docker-compose.yml gives it, scrapes a
// running testbench and has data of each side for every panel of the dashboard.
func TestPrometheusAnswersEveryPanelOfARunningTestbench(t *testing.T) {
	testkit.LongOnly(t)
	testkit.Start(t, testkit.Redis).Close() // skips the test, or fails it
	b := start(t, "-server", "redis", "-duration", "0", "-faults", "kill@1s+500ms,freeze@3s+500ms,reset@4s,every=5s")
	defer func() {
		if err := b.end(); err != nil {
			t.Error(err)
		}
	}()
	u, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile("monitoring/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	replaced := strings.NewReplacer("host.docker.internal:8360", u.Host, "/etc/everpool", promcheck.Dashboards(t), "2s", "500ms").Replace(string(config))
	prometheus := promcheck.StartWith(t, replaced)
	for side, empty := range emptyPanels {
		if n := prometheus.AnswersOf(t, side, "everpool.json", empty); n < 25 {
			t.Errorf("only %d queries of %s", n, side)
		}
	}
}
