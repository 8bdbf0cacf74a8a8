package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"
)

// verdict says whether all writes are accounted for.
//
// everpool has to be sound: nothing lost, nothing run twice, no transaction torn, no
// reply to the wrong caller. go-redis's own pool retries what may have run, so what it
// ran twice is shown, and isn't held against the run; acknowledged writes that are lost
// are, whoever lost them.
type verdict struct {
	Passed  bool              `json:"passed"`
	Faults  []string          `json:"faults"` // why it isn't passed
	Drivers map[string]totals `json:"drivers"`
}

// judge compares what all sides were told with what the servers have.
func judge(ctx context.Context, sides []*side, admin redis.UniversalClient) (verdict, error) {
	v := verdict{Faults: []string{}, Drivers: make(map[string]totals)}
	for _, s := range sides {
		writes, err := s.ledger.settle(ctx, admin)
		if err != nil {
			return v, err
		}
		t := s.totals(s.tally.latency.snapshot())
		t.Writes = writes
		v.Drivers[s.name] = t
		v.Faults = append(v.Faults, faultsOf(s.name, writes)...)
	}
	v.Passed = len(v.Faults) == 0
	return v, nil
}

// faultsOf are the reasons for which a driver fails the run.
func faultsOf(driver string, a account) []string {
	var faults []string
	against := func(n int64, what string) {
		if n > 0 {
			faults = append(faults, fmt.Sprintf("%s: %d %s", driver, n, what))
		}
	}
	against(a.Lost, "acknowledged writes are lost")
	if driver == driverEverpool {
		against(a.Twice, "writes have run beyond what the callers were told")
		against(a.Torn, "transactions have run in part")
		against(a.Foreign, "replies belong to another request")
	}
	return faults
}

// print prints the table of totals and the verdict.
func (v verdict) print(out io.Writer) {
	names := slices.Sorted(maps.Keys(v.Drivers))
	row := func(label string, of func(totals) any) {
		fmt.Fprintf(out, "  %-26s", label)
		for _, name := range names {
			fmt.Fprintf(out, "%16v", of(v.Drivers[name]))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "\n  %-26s", "")
	for _, name := range names {
		fmt.Fprintf(out, "%16s", name)
	}
	fmt.Fprintln(out)
	row("calls that succeeded", func(t totals) any { return t.OK })
	row("calls that failed", func(t totals) any { return sum(t.Failed) })
	kinds := make(map[string]bool)
	for _, t := range v.Drivers {
		for kind := range t.Failed {
			kinds[kind] = true
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		row("  "+kind, func(t totals) any { return t.Failed[kind] })
	}
	row("writes acknowledged", func(t totals) any { return t.Writes.Acked })
	row("  of unknown outcome", func(t totals) any { return t.Writes.Unknown })
	row("  found in the end", func(t totals) any { return t.Writes.Found })
	row("  lost", func(t totals) any { return t.Writes.Lost })
	row("  run twice", func(t totals) any { return t.Writes.Twice })
	row("transactions torn", func(t totals) any { return t.Writes.Torn })
	row("replies to another request", func(t totals) any { return t.Writes.Foreign })
	row("messages published", func(t totals) any { return t.Published })
	row("  received", func(t totals) any { return t.Received })
	row("connections dialed", func(t totals) any { return t.Dials })
	row("latency, median", func(t totals) any { return fmt.Sprintf("%.2f ms", t.P50) })
	row("  99th percentile", func(t totals) any { return fmt.Sprintf("%.2f ms", t.P99) })
	row("  the slowest", func(t totals) any { return fmt.Sprintf("%.0f ms", t.Max) })
	if v.Passed {
		fmt.Fprintln(out, "\nVerdict: passed. "+passed)
		return
	}
	fmt.Fprintln(out, "\nVerdict: FAILED.")
	for _, f := range v.Faults {
		fmt.Fprintln(out, "  "+f)
	}
}

// passed is what a verdict says that is passed.
const passed = "Every acknowledged write is accounted for."
