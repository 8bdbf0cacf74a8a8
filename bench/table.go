package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Format is how tables are written.
type Format string

// The formats of tables. FormatCSV has a line for each run instead.
const (
	FormatTable    Format = "table"
	FormatMarkdown Format = "markdown"
	FormatCSV      Format = "csv"
)

// grid is a table that is ready to be written.
type grid struct {
	title string
	head  []string
	rows  [][]string
}

// detail is the table of one case: a row for each client, a column for each
// measure. The ratios are to the base, if that is among the clients.
func (r Result) detail(base string) grid {
	columns := append([]measure{rate, clientCPU}, others...)
	if slices.ContainsFunc(r.Rounds, func(round []Run) bool {
		return slices.ContainsFunc(round, func(run Run) bool { return run.Failed > 0 })
	}) {
		columns = append(columns, failed)
	}
	at := slices.IndexFunc(r.Peers, func(p Peer) bool { return p.Name == base })
	g := grid{title: r.Case.String(), head: []string{"client"}}
	for i, m := range columns {
		if g.head = append(g.head, m.name); i < 2 && at >= 0 {
			g.head = append(g.head, "to "+base)
		}
	}
	for peer, p := range r.Peers {
		row := []string{p.Name}
		for i, m := range columns {
			if row = append(row, orDash(summarize(r.values(m, peer)).median, m.format)); i < 2 && at >= 0 {
				row = append(row, formatRatio(summarize(r.ratios(m, peer, at))))
			}
		}
		g.rows = append(g.rows, row)
	}
	return g
}

// overview is the table of one workload: the ratio of throughput for each client
// and number of goroutines.
func overview(results []Result, base string) grid {
	g := grid{head: []string{"client"}}
	for _, r := range results {
		at := slices.IndexFunc(r.Peers, func(p Peer) bool { return p.Name == base })
		g.title = fmt.Sprintf("%s: ops/s, ratio to %s", r.Case.Workload.Name, base)
		g.head = append(g.head, plural(r.Case.Goroutines, "goroutine"))
		for peer, p := range r.Peers {
			if peer == len(g.rows) {
				g.rows = append(g.rows, []string{p.Name})
			}
			g.rows[peer] = append(g.rows[peer], formatRatio(summarize(r.ratios(rate, peer, at))))
		}
	}
	return g
}

// byWorkload splits results where the workload changes.
func byWorkload(results []Result) (split [][]Result) {
	for i, r := range results {
		if i == 0 || r.Case.Workload != results[i-1].Case.Workload {
			split = append(split, nil)
		}
		split[len(split)-1] = append(split[len(split)-1], r)
	}
	return split
}

// markdown writes the grid with a heading.
func (g grid) markdown(w io.Writer) {
	fmt.Fprintf(w, "### %s\n\n", g.title)
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(g.head)
	rule := slices.Repeat([]string{"---:"}, len(g.head))
	rule[0] = "---"
	line(rule)
	for _, row := range g.rows {
		line(row)
	}
	fmt.Fprintln(w)
}

// text writes the grid for a terminal.
func (g grid) text(w io.Writer) {
	fmt.Fprintln(w, g.title)
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range append([][]string{g.head}, g.rows...) {
		fmt.Fprintln(columns, strings.Join(row, "\t")+"\t")
	}
	_ = columns.Flush() // w's errors are its owner's
	fmt.Fprintln(w)
}

func orDash(v float64, format func(float64) string) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	return format(v)
}

// formatRatio is the median with the quartiles.
func formatRatio(s summary) string {
	return orDash(s.median, func(float64) string { return fmt.Sprintf("%.2f (%.2f to %.2f)", s.median, s.low, s.high) })
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func formatSmall(v float64) string { return fmt.Sprintf("%.1f", v) }

// formatCount has a comma after each three digits.
func formatCount(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// formatSize takes bytes.
func formatSize(v float64) string { return fmt.Sprintf("%.1f MiB", v/(1<<20)) }

// formatTime takes nanoseconds.
func formatTime(v float64) string {
	if v >= 1e6 {
		return fmt.Sprintf("%.1f ms", v/1e6)
	}
	return fmt.Sprintf("%.1f µs", v/1e3)
}
