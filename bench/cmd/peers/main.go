// Peers compares everpool with other clients on a server of its own, and prints
// tables for docs/benchmarks.md.
//
//	go run ./cmd/peers                              # the quick preset
//	go run ./cmd/peers -preset full -format csv     # all clients and workloads: hours
//	go run ./cmd/peers -preset gathered -network 1ms    # or -cluster 3, or -beside script
//	go run ./cmd/peers -clients stock,everpool -workloads get-32,set-1k -goroutines 1,64
//
// Progress goes to stderr. Ctrl-C ends it early, with the tables of the rounds
// that were complete.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/everpool/everpool/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	logging.Disable()            // what fails is counted
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// run is the program.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	plan, err := o.plan()
	if err != nil {
		return err
	}
	plan.Progress = progress
	if plan.Server, err = o.start(ctx); err != nil {
		return err
	}
	defer plan.Server.Close()
	results, err := plan.Run(ctx)
	return errors.Join(err, bench.Report(out, plan, results, o.base, o.format))
}

// options are what the flags say.
type options struct {
	preset, clients, workloads, goroutines string
	server, base                           string
	format                                 bench.Format
	rounds, cluster                        int
	time, network                          time.Duration
	beside                                 string
}

func parse(args []string, out io.Writer) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&o.preset, "preset", "quick", "what isn't chosen by the flags below: `quick, gathered or full`")
	flags.StringVar(&o.clients, "clients", "", "`names`, separated by commas: "+strings.Join(names(), ", "))
	flags.StringVar(&o.workloads, "workloads", "", "`names` such as get-32, set-1k, mixed-64k, pipeline10-32")
	flags.StringVar(&o.goroutines, "goroutines", "", "`numbers`, separated by commas")
	flags.StringVar(&o.base, "base", "stock", "`client` that ratios are formed to")
	flags.StringVar(&o.server, "server", "redis-server", "`program`: redis-server or valkey-server")
	flags.IntVar(&o.rounds, "rounds", 7, "how often each client has its turn")
	flags.DurationVar(&o.time, "time", 300*time.Millisecond, "how long a turn is")
	flags.IntVar(&o.cluster, "cluster", 0, "`masters` of a cluster, in place of one server")
	flags.DurationVar(&o.network, "network", 0, "`time` that a round trip takes besides")
	flags.StringVar(&o.beside, "beside", "", "`what` goes on meanwhile: script (20 ms each second), blpop (30 callers of the client), large (two callers of 1 MiB)")
	format := flags.String("format", string(bench.FormatTable), "`format` of the output: table, markdown or csv")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	switch o.format = bench.Format(*format); {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("arguments %q; there are only flags", flags.Args())
	case o.format != bench.FormatTable && o.format != bench.FormatMarkdown && o.format != bench.FormatCSV:
		return nil, fmt.Errorf("-format is %q; allowed are table, markdown and csv", *format)
	case o.rounds < 1 || o.time < time.Millisecond:
		return nil, fmt.Errorf("-rounds is %d and -time %s; allowed are 1 and 1ms and more", o.rounds, o.time)
	case o.cluster < 0 || o.cluster == 2 || o.cluster == 1 || o.network < 0 || o.cluster > 0 && o.network > 0:
		return nil, fmt.Errorf("-cluster is %d and -network %s; allowed are 3 masters and more, or a time from 0 on, not both", o.cluster, o.network)
	}
	return o, nil
}

// start starts the server, or the cluster.
func (o *options) start(ctx context.Context) (*bench.Server, error) {
	if o.cluster > 0 {
		return bench.StartCluster(ctx, o.server, o.cluster)
	}
	return bench.StartServer(ctx, o.server)
}

func names() (all []string) {
	for _, p := range bench.Peers() {
		all = append(all, p.Name)
	}
	return all
}

// plan completes the options from the preset, and looks the names up.
func (o *options) plan() (bench.Plan, error) {
	p := bench.Plan{Rounds: o.rounds, Time: o.time, Network: o.network}
	var err error
	if p.Beside, err = bench.ParseBeside(o.beside); err != nil {
		return p, fmt.Errorf("-beside: %w", err)
	}
	clients, workloads, goroutines := "stock,everpool,everpool-gathered,rueidis,autopipeline,everpool-autopipeline,floor,floor-parked", "get-32", "1,4,8,64,512"
	switch o.preset {
	case "quick":
	case "gathered":
		clients, workloads, goroutines = "stock,everpool,everpool-gathered,rueidis,autopipeline", "get-32,set-32,incr-1,mixed-32", "1,2,4,8,64,512,2048"
	case "full":
		clients, workloads, goroutines = strings.Join(names(), ","), strings.Join(bench.Workloads(), ","), "1,8,64,512,1024,2048"
	default:
		return p, fmt.Errorf("-preset is %q; allowed are quick, gathered and full", o.preset)
	}
	for _, name := range list(o.clients, clients) {
		peer, err := bench.FindPeer(name)
		if err != nil {
			return p, err
		}
		p.Peers = append(p.Peers, peer)
	}
	if _, err := bench.FindPeer(o.base); err != nil {
		return p, fmt.Errorf("-base: %w", err)
	}
	for _, name := range list(o.workloads, workloads) {
		w, err := bench.ParseWorkload(name)
		if err != nil {
			return p, err
		}
		for _, text := range list(o.goroutines, goroutines) {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return p, fmt.Errorf("-goroutines has %q; allowed are numbers from 1 on", text)
			}
			p.Cases = append(p.Cases, bench.Case{Workload: w, Goroutines: n})
		}
	}
	return p, nil
}

// list splits what a flag says, or what the preset says in its place.
func list(flag, preset string) []string {
	if flag == "" {
		flag = preset
	}
	all := strings.Split(flag, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}
