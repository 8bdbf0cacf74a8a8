package promhooks

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/hooks"
)

// baseplate are the metrics of [WithBaseplateNames].
type baseplate struct {
	latency  *prometheus.HistogramVec
	requests *prometheus.CounterVec
	active   *prometheus.GaugeVec

	databases atomic.Pointer[[]*database] // never changed, replaced
	mu        sync.Mutex                  // for replacing it
}

// database has the series of one database's commands. A program uses few.
type database struct {
	number   int // unknownDatabase: not known
	name     string
	commands []baseplateSeries // by hooks.Command.Index; the last are batches
}

const unknownDatabase = -1

// baseplateSeries are those of a command.
type baseplateSeries struct {
	active  atomic.Pointer[prometheus.Gauge]
	results [2]atomic.Pointer[baseplateResult] // failed, succeeded
}

type baseplateResult struct {
	latency  prometheus.Observer
	requests prometheus.Counter
}

func newBaseplate(client, redisType string) *baseplate {
	constant := prometheus.Labels{"redis_client_name": client, "redis_type": redisType}
	shared := []string{"redis_command", "redis_database"}
	all := []string{"redis_command", "redis_database", "redis_success"}
	b := &baseplate{
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "redis_client_latency_seconds", ConstLabels: constant, Buckets: baseplateBuckets,
			Help: "Time that a command or a batch took (Baseplate's name).",
		}, all),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redis_client_requests_total", ConstLabels: constant,
			Help: "Commands and batches (Baseplate's name).",
		}, all),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "redis_client_active_requests", ConstLabels: constant,
			Help: "Commands and batches that are under way (Baseplate's name).",
		}, shared),
	}
	b.databases.Store(new([]*database))
	return b
}

func (b *baseplate) begin(op *hooks.Operation) { b.gauge(op).Inc() }

func (b *baseplate) end(op *hooks.Operation, seconds float64) {
	b.gauge(op).Dec()
	r := b.result(op)
	r.latency.Observe(seconds)
	r.requests.Inc()
}

func (b *baseplate) gauge(op *hooks.Operation) prometheus.Gauge {
	db := b.database(op.Target)
	at := &db.commands[position(op)].active
	g := at.Load()
	if g == nil {
		made := b.active.WithLabelValues(baseplateCommand(op), db.name)
		g = &made
		at.Store(g)
	}
	return *g
}

func (b *baseplate) result(op *hooks.Operation) *baseplateResult {
	db := b.database(op.Target)
	success := 1
	if op.Outcome == hooks.Error {
		success = 0
	}
	at := &db.commands[position(op)].results[success]
	r := at.Load()
	if r == nil {
		labels := []string{baseplateCommand(op), db.name, strconv.FormatBool(success == 1)}
		r = &baseplateResult{latency: b.latency.WithLabelValues(labels...), requests: b.requests.WithLabelValues(labels...)}
		at.Store(r)
	}
	return r
}

// position is where an operation's series are.
func position(op *hooks.Operation) int {
	if op.Kind == hooks.Single {
		return op.Command.Index
	}
	return hooks.NumCommands()
}

func baseplateCommand(op *hooks.Operation) string {
	if op.Kind == hooks.Single {
		return op.Command.Name
	}
	return "pipeline"
}

func (b *baseplate) database(t *hooks.Target) *database {
	number := t.DB
	if t.Network == "" { // the hook was added without Attach
		number = unknownDatabase
	}
	if db := findDatabase(*b.databases.Load(), number); db != nil {
		return db
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	known := *b.databases.Load()
	if db := findDatabase(known, number); db != nil {
		return db
	}
	db := &database{number: number, commands: make([]baseplateSeries, hooks.NumCommands()+1)}
	if number != unknownDatabase {
		db.name = strconv.Itoa(number)
	}
	more := append(append([]*database(nil), known...), db)
	b.databases.Store(&more)
	return db
}

func findDatabase(all []*database, number int) *database {
	for _, db := range all {
		if db.number == number {
			return db
		}
	}
	return nil
}
