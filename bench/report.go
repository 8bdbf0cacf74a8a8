package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// Report writes the results: what was measured and how, the ratios of each
// workload, and a table for each case. Ratios are to the client called base; if
// it isn't among the clients there are none.
func Report(w io.Writer, p Plan, results []Result, base string, format Format) error {
	switch format {
	case FormatCSV:
		return writeCSV(w, results, base)
	case FormatTable, FormatMarkdown:
	default:
		return fmt.Errorf("format %q; allowed are table, markdown and csv", format)
	}
	write := grid.text
	if format == FormatMarkdown {
		write = grid.markdown
	}
	fmt.Fprintln(w, p.about())
	fmt.Fprintln(w)
	for _, peer := range p.Peers {
		fmt.Fprintf(w, "- %s: %s\n", peer.Name, peer.About)
	}
	fmt.Fprintln(w)
	if slices.ContainsFunc(p.Peers, func(peer Peer) bool { return peer.Name == base }) {
		for _, some := range byWorkload(results) {
			write(overview(some, base), w)
		}
	}
	for _, r := range results {
		g := r.detail(base)
		if done := len(r.Rounds); done < p.Rounds {
			g.title += ", interrupted after " + plural(done, "round")
		}
		write(g, w)
	}
	return nil
}

// about says on what the figures were measured.
func (p Plan) about() string {
	more := ""
	if n := len(p.Server.others); n > 0 {
		more += fmt.Sprintf("A cluster of %d masters. ", n+1)
	}
	if p.Network > 0 {
		more += fmt.Sprintf("Round trips take %s more, by a proxy in the same process: the client's CPU time has that of the proxy. ", p.Network)
	}
	if p.Beside != BesideNothing {
		more += fmt.Sprintf("Beside %s. ", p.Beside)
	}
	return more + fmt.Sprintf("%s of %s for each client, in turn; %s, GOMAXPROCS %d, %s %s/%s; %s. "+
		"Figures are medians; ratios are formed round by round: median (quartiles). An operation is one call, a pipeline too.",
		plural(p.Rounds, "round"), p.Time, p.Server.Version, runtime.GOMAXPROCS(0), runtime.Version(), runtime.GOOS, runtime.GOARCH, strings.Join(versions(), ", "))
}

// versions are those of the peers, as the program was built with them.
func versions() (all []string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, lib := range []string{
		"github.com/redis/go-redis/v9", "github.com/redis/rueidis", "github.com/valkey-io/valkey-go",
		"github.com/gomodule/redigo", "github.com/mediocregopher/radix/v4",
	} {
		for _, m := range info.Deps {
			if m.Path == lib {
				all = append(all, strings.TrimPrefix(lib, "github.com/")+" "+m.Version)
			}
		}
	}
	return all
}

// writeCSV writes a line for each run, times in nanoseconds; what isn't known is
// empty.
func writeCSV(w io.Writer, results []Result, base string) error {
	columns := append(append([]measure{rate, clientCPU}, others...), failed)
	head := []string{"workload", "goroutines", "round", "client", "ratio"}
	for _, m := range columns {
		head = append(head, m.name)
	}
	out := csv.NewWriter(w)
	_ = out.Write(head) // Error tells
	for _, r := range results {
		at := slices.IndexFunc(r.Peers, func(p Peer) bool { return p.Name == base })
		for number, round := range r.Rounds {
			for peer := range round {
				ratio := math.NaN()
				if at >= 0 {
					ratio = r.ratios(rate, peer, at)[number]
				}
				line := []string{r.Case.Workload.Name, strconv.Itoa(r.Case.Goroutines), strconv.Itoa(number + 1), r.Peers[peer].Name, exact(ratio)}
				for _, m := range columns {
					line = append(line, exact(m.of(&round[peer])))
				}
				_ = out.Write(line)
			}
		}
	}
	out.Flush()
	return out.Error()
}

func exact(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}
