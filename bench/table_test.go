package bench

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// madeUp are three rounds of two clients: base does 100, 200 and 400 operations
// in a second, the other one twice, thrice and once as many.
func madeUp() []Result {
	one := func(ops int64) Run {
		r := Run{Ops: ops, Elapsed: time.Second, CPU: time.Duration(ops) * 2 * time.Microsecond, Mallocs: uint64(ops) * 3, Bytes: uint64(ops) * 1500, Idle: 3 << 20, Sockets: 20, ServerCPU: time.Duration(ops) * time.Microsecond}
		r.Latency.Record(20 * time.Nanosecond)
		return r
	}
	return []Result{{
		Case:   Case{Workload: Workload{Name: "get-32"}, Goroutines: 8},
		Peers:  []Peer{{Name: "base"}, {Name: "other"}},
		Rounds: [][]Run{{one(100), one(200)}, {one(200), one(600)}, {one(400), one(400)}},
	}}
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	for _, test := range []struct {
		values []float64
		want   summary
	}{
		{[]float64{5}, summary{5, 5, 5}},
		{[]float64{4, 1}, summary{2.5, 1.75, 3.25}},
		{[]float64{3, 1, 2}, summary{2, 1.5, 2.5}},
		{[]float64{7, 1, 3, 5, 9}, summary{5, 3, 7}},
		{[]float64{nan, 3, nan, 1, 2}, summary{2, 1.5, 2.5}},
	} {
		if got := summarize(test.values); got != test.want {
			t.Errorf("%v: %v; want %v", test.values, got, test.want)
		}
	}
	if got := summarize([]float64{nan}); !math.IsNaN(got.median) || !math.IsNaN(got.low) {
		t.Errorf("of nothing: %v", got)
	}
}

// Ratios are formed round by round, not from the medians: here those would give
// 2 as well, but other quartiles.
func TestTablesOfMadeUpFigures(t *testing.T) {
	t.Parallel()
	results := madeUp()
	detail := results[0].detail("base")
	if got, want := strings.Join(detail.head, "|"), "client|ops/s|to base|client CPU/op|to base|allocs/op|B/op|p50|p99|p99.9|idle heap|sockets|server CPU/op"; got != want {
		t.Errorf("head %s; want %s", got, want)
	}
	for i, want := range []string{
		"base|200|1.00 (1.00 to 1.00)|2.0 µs|1.00 (1.00 to 1.00)|3.0|1,500|0.0 µs|0.0 µs|0.0 µs|3.0 MiB|20|1.0 µs",
		"other|400|2.00 (1.50 to 2.50)|2.0 µs|1.00 (1.00 to 1.00)|3.0|1,500|0.0 µs|0.0 µs|0.0 µs|3.0 MiB|20|1.0 µs",
	} {
		if got := strings.Join(detail.rows[i], "|"); got != want {
			t.Errorf("row %d: %s; want %s", i, got, want)
		}
	}
	var out strings.Builder
	overview(results, "base").markdown(&out)
	want := `### get-32: ops/s, ratio to base

| client | 8 goroutines |
| --- | ---: |
| base | 1.00 (1.00 to 1.00) |
| other | 2.00 (1.50 to 2.50) |

`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

// What couldn't be measured is a dash, and what failed is told.
func TestTablesShowWhatFailed(t *testing.T) {
	t.Parallel()
	results := madeUp()
	for _, round := range results[0].Rounds {
		round[1] = Run{Failed: 1234, Err: errors.New("no"), NoServer: true, Elapsed: time.Second}
	}
	detail := results[0].detail("nobody")
	if got, want := strings.Join(detail.rows[1], "|"), "other|–|–|–|–|–|–|–|–|–|–|1,234"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if got := detail.head[len(detail.head)-1]; got != "failed ops" {
		t.Errorf("the last column is %q", got)
	}
}

func TestCSVHasALineForEachRun(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := Report(&out, Plan{}, madeUp(), "base", FormatCSV); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 1+6 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	if want := "get-32,8,2,other,3,600,2000,3,1500,20,20,20,3.14573e+06,20,1000,0"; lines[4] != want {
		t.Errorf("%s; want %s", lines[4], want)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		formatCount(0): "0", formatCount(999): "999", formatCount(1000): "1,000", formatCount(1234567): "1,234,567",
		formatTime(1500): "1.5 µs", formatTime(2.5e6): "2.5 ms",
		plural(1, "round"): "1 round", plural(7, "round"): "7 rounds",
	} {
		if got != want {
			t.Errorf("%s; want %s", got, want)
		}
	}
}
