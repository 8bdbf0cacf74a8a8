package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// bench is one run: servers, the sides before them, and what shows them.
type bench struct {
	set      settings
	top      servers
	sides    []*side
	runs     []func(context.Context) // the workloads
	page     page
	registry *prometheus.Registry
	listener net.Listener
	out      io.Writer

	closers []func() error // in the opposite order
}

// newBench starts what the run needs.
func newBench(ctx context.Context, set settings, out io.Writer) (_ *bench, err error) {
	b := &bench{set: set, out: out, registry: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if err := writable(set.report); err != nil {
		return nil, err
	}
	if b.listener, err = net.Listen("tcp", set.listen); err != nil {
		return nil, fmt.Errorf("-listen is %q: %w", set.listen, err)
	}
	b.closers = append(b.closers, func() error { _ = b.listener.Close(); return nil }) // closed already, as a rule
	if b.top, err = startServers(ctx, set); err != nil {
		return nil, err
	}
	b.closers = append(b.closers, func() error { b.top.close(); return nil })
	if err := b.possible(); err != nil {
		return nil, err
	}
	for _, name := range set.drivers {
		s, err := newSide(name, b.top, set, b.registry)
		if err != nil {
			return nil, err
		}
		b.closers = append(b.closers, s.close)
		b.sides = append(b.sides, s)
		b.runs = append(b.runs, b.start(s)...)
	}
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	b.page, err = newPage(b.setup())
	return b, err
}

// prepare writes what the callers expect to find.
func (b *bench) prepare(ctx context.Context) error {
	admin, err := b.top.admin(ctx)
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, s := range b.sides {
		err = errors.Join(err, s.ledger.prepare(ctx, admin))
	}
	return err
}

// possible is the error of a schedule with faults that these servers can't have.
func (b *bench) possible() error {
	for _, f := range b.set.faults.faults {
		if !b.top.can(f.kind) {
			return fmt.Errorf("-faults has a %s: there is none with %s", f.kind, b.top.about())
		}
	}
	return nil
}

// start registers a side's workloads.
func (b *bench) start(s *side) (runs []func(context.Context)) {
	for _, w := range workloads {
		if b.has(w) {
			runs = append(runs, w.start(s))
		}
	}
	return runs
}

// has says whether the workload is one of the run.
func (b *bench) has(w workload) bool {
	return slices.Contains(b.set.workloads, w.name) && (w.name != workloadReplicas || b.set.topology == topologyCluster)
}

// setup is what the page is told.
func (b *bench) setup() setup {
	s := setup{
		Drivers: b.set.drivers, Server: b.top.about(), Schedule: b.set.faults.String(),
		Duration: b.set.duration.Seconds(), Began: time.Now().Format("2006-01-02 15:04:05"),
	}
	for _, k := range faultKinds {
		if b.top.can(k.kind) {
			s.Faults = append(s.Faults, namedThing{string(k.kind), k.about})
		}
	}
	for _, w := range workloads {
		if b.has(w) {
			s.Loads = append(s.Loads, namedThing{w.name, strings.Replace(w.about, "-wave", strconv.Itoa(b.set.wave), 1)})
		}
	}
	return s
}

// run works until the time is over or ctx is done, and then passes its verdict.
func (b *bench) run(ctx context.Context) error {
	if b.set.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.set.duration)
		defer cancel()
	}
	began := time.Now()
	j := newJournal(began)
	term := &terminal{began: began, out: b.out}
	in := &injector{top: b.top, journal: j, out: term, asked: make(chan faultKind)}
	for _, s := range b.sides {
		in.nets = append(in.nets, s.net)
	}
	stop := b.serve(handler(b.page, j, in, b.registry, b.sides))
	defer stop()
	fmt.Fprintf(b.out, "The page is http://%s/ and metrics for Prometheus are in /metrics there, everpool's pool in /debug/everpool. The server is %s.\n", b.listener.Addr(), b.top.about())

	b.work(ctx, in, newSampler(b.sides, j, term))
	v, err := b.verdict(j)
	j.end() // pages get what there is, and stop is not held up
	if err != nil {
		return err
	}
	v.print(b.out)
	if err := b.report(j); err != nil {
		return err
	}
	if !v.Passed {
		return errVerdict
	}
	return nil
}

// work has callers, faults and samples go on until ctx is done, and returns when all have
// ended.
func (b *bench) work(ctx context.Context, in *injector, sm *sampler) {
	var others, callers sync.WaitGroup
	others.Go(func() { in.run(ctx, b.set.faults) })
	others.Go(func() { sm.run(ctx) })
	for _, run := range b.runs {
		callers.Go(func() { run(ctx) })
	}
	<-ctx.Done()
	others.Wait() // the last fault is over

	done := make(chan struct{})
	go func() { callers.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		case <-time.After(2 * time.Second):
			in.each((*network).reset) // for those who wait on a connection that is silent
		}
	}
}

// verdict passes the verdict and notes it.
func (b *bench) verdict(j *journal) (verdict, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	admin, err := b.top.admin(ctx)
	if err != nil {
		return verdict{}, err
	}
	defer admin.Close()
	v, err := judge(ctx, b.sides, admin)
	if err != nil {
		return v, err
	}
	j.add(endEntry{Kind: "end", At: j.since(), Verdict: v})
	return v, nil
}

// writable is the error of a report that couldn't be written in the end.
func writable(report string) error {
	if report == "" {
		return nil
	}
	f, err := os.OpenFile(report, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("-report: %w", err)
	}
	return f.Close()
}

// report writes the report, if one is wanted.
func (b *bench) report(j *journal) (err error) {
	if b.set.report == "" {
		return nil
	}
	f, err := os.Create(b.set.report)
	if err != nil {
		return fmt.Errorf("-report: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	entries, _, _ := j.from(0)
	if err := b.page.write(f, entries); err != nil {
		return fmt.Errorf("-report: %w", err)
	}
	fmt.Fprintf(b.out, "The report is in %s.\n", b.set.report)
	return nil
}

// serve serves the page until the function that it returns is called. That one gives
// pages two seconds to get the end.
func (b *bench) serve(h http.Handler) (stop func()) {
	web := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = web.Serve(b.listener) }) // until it is shut down
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if web.Shutdown(ctx) != nil {
			_ = web.Close() // somebody doesn't read
		}
		serving.Wait()
	}
}

// close ends everything in the opposite order of its making.
func (b *bench) close() error {
	var errs []error
	for _, end := range slices.Backward(b.closers) {
		errs = append(errs, end())
	}
	b.closers = nil
	return errors.Join(errs...)
}
