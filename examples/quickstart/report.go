package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/everpool/everpool/driver"
)

// reportCallers prints what the callers of both sides saw, beside each other.
func reportCallers(out io.Writer, ours, stock *side) {
	row := func(label string, value func(*side) any) {
		fmt.Fprintf(out, "  %-34s %16v %16v\n", label, value(ours), value(stock))
	}
	fmt.Fprintf(out, "%-36s %16s %16s\n", "What the callers saw", ours.name, stock.name)
	row("requests", func(s *side) any { return s.calls })
	row("failed", func(s *side) any { return s.failures() })
	kinds := maps.Clone(ours.failed)
	maps.Copy(kinds, stock.failed)
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		row("  "+k, func(s *side) any { return s.failed[k] })
	}
	row("slowest request", func(s *side) any { return seconds(s.slowest) })
	row("longest time without an answer", func(s *side) any { return seconds(s.gap) })
	row("INCRs called", func(s *side) any { return s.incrs })
	row("INCRs answered", func(s *side) any { return s.acked })
	row("INCRs that the server has counted", func(s *side) any { return s.counter })
	row("connections tried to open", func(s *side) any { return s.dials() })
	for _, s := range []*side{ours, stock} {
		if unknown := s.failed[outcomeUnknown]; unknown > 0 {
			fmt.Fprintf(out, "  * %s: %s with unknown outcome. Of those the server has counted %d.\n", s.name, count(int64(unknown), "INCR"), s.counter-int64(s.acked))
		}
		if more := s.counter - int64(s.incrs); more > 0 {
			fmt.Fprintf(out, "  * %s: the server counted %d more than were called, so a retry ran twice.\n", s.name, more)
		}
	}
	fmt.Fprintln(out)
}

// reportNode prints the pool's statistics in words.
func reportNode(out io.Writer, n driver.NodeStatus) {
	st := n.Stats
	row := func(label, format string, args ...any) {
		fmt.Fprintf(out, "  %-12s %s\n", label, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(out, "everpool's pool for %s\n", n.Addr)
	row("state", "%s for %s; it came back %s", n.State, seconds(time.Since(n.Since)), count(st.Heals, "time"))
	row("handles", "%d held by go-redis", n.Handles)
	row("sockets", "%d open of at most %d: %d in use, %d idle", st.OpenConnections, st.MaxOpenConnections, st.InUse, st.Idle)
	row("dials", "%d, of which %d failed", st.Dials, st.DialErrors)
	row("requests", "%d: %d answered, %d failed, %d sent away while the node was ill, to come again, %d given up by their callers", st.Admitted, st.Answered, st.Failed-st.SentAway, st.SentAway, st.Abandoned)
	row("waited", "%s, together %s", count(st.WaitCount, "request"), seconds(st.WaitDuration))
	row("moved", "%s to another connection before the server saw them", count(st.Moved, "request"))
	row("sent again", "%s whose connection was lost", count(st.Resent, "read"))
	row("unknown", "%s that may or may not have run, and whose callers were told so", count(st.Unknown, "request"))
	row("closed", "%s", reasons(st.Closes))
}

// reasons lists counts by name, the largest first.
func reasons[K ~string](by map[K]int64) string {
	names := slices.SortedFunc(maps.Keys(by), func(a, b K) int {
		return cmp.Or(cmp.Compare(by[b], by[a]), cmp.Compare(a, b))
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%d %s", by[name], strings.ReplaceAll(string(name), "_", " "))
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }
