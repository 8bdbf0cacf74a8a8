package bench

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Case is one configuration: every client runs it once in each round.
type Case struct {
	Workload   Workload
	Goroutines int
}

// String is the workload's name and the number of goroutines.
func (c Case) String() string {
	return c.Workload.Name + ", " + plural(c.Goroutines, "goroutine")
}

// Run is what was measured of one client in one round.
type Run struct {
	Ops       int64 // that succeeded
	Failed    int64
	Err       error // of the first that failed
	Elapsed   time.Duration
	CPU       time.Duration // of this process
	Mallocs   uint64
	Bytes     uint64
	Latency   Histogram
	Idle      int64 // heap that the client has kept when all was over
	Sockets   int
	ServerCPU time.Duration
	NoServer  bool // Sockets and ServerCPU mean nothing
}

// sampleFrom is the number of goroutines from which on only every eighth
// operation is timed: a look at the clock costs up to 100 ns.
const (
	sampleFrom  = 64
	sampleEvery = 8
)

// worker is one goroutine's part of a run.
type worker struct {
	id      int
	job     *job
	latency Histogram
	ops     int64
	failed  int64
	err     error
}

// run measures one client: it is made, warmed up for a fifth of the time, used,
// and closed.
func (p Plan) run(ctx context.Context, addr string, peer Peer, c Case) Run {
	s, length := p.Server, p.Time
	setup := s.setup(c)
	setup.Addr = addr
	client, err := peer.New(setup)
	if err != nil {
		return Run{Failed: 1, Err: err, NoServer: true}
	}
	defer func() {
		_ = client.Close()
		s.settle(context.WithoutCancel(ctx))
	}()
	value := c.Workload.value()
	workers := make([]*worker, c.Goroutines)
	for i := range workers {
		workers[i] = &worker{id: i, job: newJob(client, c.Workload, value, i)}
	}
	idle := heap()
	end, err := p.Beside.start(ctx, s, client)
	if err != nil {
		return Run{Failed: 1, Err: err, NoServer: true}
	}
	phase(ctx, workers, length/5) // opens the connections
	for _, w := range workers {
		*w = worker{id: w.id, job: w.job}
	}
	before, err := s.figures(ctx)
	if err != nil {
		end()
		return Run{Failed: 1, Err: err, NoServer: true}
	}
	r := phase(ctx, workers, length)
	r.NoServer = peer.Memory
	after, err := s.figures(ctx)
	if err != nil {
		r.NoServer = true
	}
	r.Sockets, r.ServerCPU = after.sockets, after.cpu-before.cpu
	end()
	r.Idle = heap() - idle
	runtime.KeepAlive(workers) // they were there before
	return r
}

// heap is what is in use, without garbage.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what pools have kept is gone after the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// phase lets all workers work for so long, and each at least once. It ends early
// when ctx is done. The operations don't see ctx: one that can be cancelled
// costs some clients more than others.
func phase(ctx context.Context, workers []*worker, length time.Duration) Run {
	var stop atomic.Bool
	defer context.AfterFunc(ctx, func() { stop.Store(true) })()
	every := 1
	if len(workers) >= sampleFrom {
		every = sampleEvery
	}
	start := make(chan struct{})
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			<-start
			w.work(&stop, every)
		})
	}
	// Goroutines and what belongs to them were allocated before the first look.
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, began := processCPU(), time.Now()
	timer := time.AfterFunc(length, func() { stop.Store(true) })
	close(start)
	wg.Wait()
	r := Run{Elapsed: time.Since(began), CPU: processCPU() - cpu}
	runtime.ReadMemStats(&after)
	timer.Stop()
	r.Mallocs, r.Bytes = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	for _, w := range workers {
		r.Ops += w.ops
		r.Failed += w.failed
		r.Latency.Merge(&w.latency)
		if r.Err == nil {
			r.Err = w.err
		}
	}
	return r
}

// work repeats the job until it is told to stop. Workers don't sample the same
// operations: the first ones, when all begin at once, are not like the others.
func (w *worker) work(stop *atomic.Bool, every int) {
	ctx := context.Background()
	for i := w.id; ; i++ {
		if i%every != 0 {
			w.count(w.job.do(ctx))
		} else {
			began := time.Now()
			w.count(w.job.do(ctx))
			w.latency.Record(time.Since(began))
		}
		if stop.Load() {
			return
		}
	}
}

func (w *worker) count(err error) {
	if err == nil {
		w.ops++
		return
	}
	if w.failed++; w.err == nil {
		w.err = err
	}
}
