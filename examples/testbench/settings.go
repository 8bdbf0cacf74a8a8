package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// settings are what the flags say.
type settings struct {
	drivers   []string
	server    string
	topology  string // "": a single server
	workloads []string
	duration  time.Duration // 0: until interrupted
	faults    schedule
	listen    string
	report    string // a file; "": none
	wave      int    // callers at the height of a wave
	timeout   time.Duration
}

const (
	driverEverpool = "everpool"
	driverStock    = "stock"
	driverBoth     = "both"

	topologyCluster  = "cluster"
	topologySentinel = "sentinel"

	serverAuto     = "auto"
	serverEmbedded = "embedded"
)

// parse reads the flags. The error names each flag that is wrong, its value, and what is
// allowed.
func parse(args []string, out io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("testbench", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // a wrong flag is an error, without the whole help
	driver := flags.String("driver", driverBoth, "whose pool: everpool, stock (go-redis's own) or both")
	flags.StringVar(&s.server, "server", serverAuto, "redis, valkey, embedded, or auto: what is installed, else embedded")
	cluster := flags.Bool(topologyCluster, false, "a cluster of three servers with a replica each")
	sentinel := flags.Bool(topologySentinel, false, "a server with two replicas and three sentinels")
	workloads := flags.String("workloads", "all", "which, by commas; all: every one that the servers allow")
	flags.DurationVar(&s.duration, "duration", 5*time.Minute, "how long to work; 0: until interrupted")
	faults := flags.String("faults", "default", "`schedule` of faults, none, or default: each of them, again and again")
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8360", "`address` of the page; port 0: any")
	flags.StringVar(&s.report, "report", "", "`file` to write a report to in the end, one HTML page")
	flags.IntVar(&s.wave, "wave", 1000, "callers at the height of the waves")
	flags.DurationVar(&s.timeout, "timeout", time.Second, "read and write timeouts of all clients")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(out)
		usage(flags)
		return s, err
	case err != nil:
		return s, fmt.Errorf("%w; durations are as 90s or 5m, -wave is a number, and -help lists all flags", err)
	}
	var errs []error
	wrong := func(name, value, allowed string) {
		errs = append(errs, fmt.Errorf("-%s is %s; allowed are %s", name, value, allowed))
	}
	if flags.NArg() > 0 {
		errs = append(errs, fmt.Errorf("%q: no arguments are allowed but flags", flags.Args()))
	}
	s.drivers = []string{*driver}
	switch *driver {
	case driverEverpool, driverStock:
	case driverBoth:
		s.drivers = []string{driverEverpool, driverStock}
	default:
		wrong("driver", fmt.Sprintf("%q", *driver), "everpool, stock and both")
	}
	if !slices.Contains([]string{serverAuto, serverEmbedded, "redis", "valkey"}, s.server) {
		wrong("server", fmt.Sprintf("%q", s.server), "redis, valkey, embedded and auto")
	}
	if s.duration < 0 || s.duration > 0 && s.duration < time.Second {
		wrong("duration", s.duration.String(), "0 (until interrupted) and 1s and more")
	}
	if s.wave < 1 || s.wave > 10_000 {
		wrong("wave", fmt.Sprint(s.wave), "1 to 10000")
	}
	if s.timeout < 10*time.Millisecond || s.timeout > time.Minute {
		wrong("timeout", s.timeout.String(), "10ms to 1m")
	}
	if _, _, err := net.SplitHostPort(s.listen); err != nil {
		wrong("listen", fmt.Sprintf("%q", s.listen), "addresses as 127.0.0.1:8360, 127.0.0.1:0 or :8360")
	}
	switch {
	case *cluster && *sentinel:
		errs = append(errs, errors.New("-cluster and -sentinel are set; allowed is one of them"))
	case *cluster:
		s.topology = topologyCluster
	case *sentinel:
		s.topology = topologySentinel
	}
	if s.topology != "" && s.server == serverEmbedded {
		errs = append(errs, fmt.Errorf("-server is embedded with -%s; allowed are redis, valkey and auto", s.topology))
	}
	if *faults == "default" {
		*faults = defaultFaults
		if s.topology != "" {
			*faults = topologyFaults
		}
	}
	var err error
	if s.faults, err = parseSchedule(*faults); err != nil {
		errs = append(errs, fmt.Errorf("-faults is wrong: %w", err))
	}
	if s.workloads, err = parseWorkloads(*workloads); err != nil {
		errs = append(errs, fmt.Errorf("-workloads is %q: %w", *workloads, err))
	}
	return s, errors.Join(errs...)
}

// parseWorkloads reads names with commas between them, or "all".
func parseWorkloads(text string) ([]string, error) {
	var all []string
	for _, w := range workloads {
		all = append(all, w.name)
	}
	if text == "all" {
		return all, nil
	}
	names := strings.Split(text, ",")
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
		if !slices.Contains(all, names[i]) {
			return nil, fmt.Errorf("no workload is called %q; allowed are all, or of %s", names[i], strings.Join(all, ", "))
		}
	}
	return names, nil
}

// usage explains the program.
func usage(flags *flag.FlagSet) {
	out := flags.Output()
	fmt.Fprint(out, "Testbench shows everpool beside go-redis's own pool, live in a browser, while servers fail.\n\nFlags:\n\n")
	flags.PrintDefaults()
	fmt.Fprint(out, "\nFaults, as in -faults kill@8s+1.5s,reset@12s,every=20s; what follows + is how long:\n\n")
	for _, k := range faultKinds {
		fmt.Fprintf(out, "  %-9s %s\n", k.kind, k.about)
	}
	fmt.Fprint(out, "\nWorkloads:\n\n")
	for _, w := range workloads {
		fmt.Fprintf(out, "  %-13s %s\n", w.name, w.about)
	}
	fmt.Fprint(out, "\nThe exit status is 1 if everpool lost a write, ran one twice, or gave a caller\nsomebody else's reply, or if an acknowledged write was lost on either; 2 if the\nrun could not be made, or a flag is wrong.\n")
}
