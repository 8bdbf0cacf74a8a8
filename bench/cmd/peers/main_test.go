package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/everpool/everpool/bench"
)

func TestTheProgramPrintsATable(t *testing.T) {
	var out strings.Builder
	err := run(t.Context(), []string{"-clients", "stock,everpool,floor", "-goroutines", "1, 2", "-rounds", "1", "-time", "10ms", "-format", "markdown"}, &out, t.Output())
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skipf("no real server: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"### get-32, 2 goroutines", "| everpool | ", "| stock | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q isn't in\n%s", want, out.String())
		}
	}
}

func TestPresets(t *testing.T) {
	for preset, want := range map[string]struct{ peers, cases int }{
		"quick":    {8, 5},
		"gathered": {5, 4 * 7},
		"full":     {len(bench.Peers()), 6 * len(bench.Workloads())},
	} {
		o, err := parse([]string{"-preset", preset}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		p, err := o.plan()
		if err != nil || len(p.Peers) != want.peers || len(p.Cases) != want.cases {
			t.Errorf("%s: %d clients, %d cases, %v; want %+v", preset, len(p.Peers), len(p.Cases), err, want)
		}
	}
}

// What is wrong is told before a server is started.
func TestWrongFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-preset", "slow"},
		{"-clients", "nobody"},
		{"-base", "nobody"},
		{"-workloads", "get"},
		{"-goroutines", "0"},
		{"-goroutines", "x"},
		{"-format", "xml"},
		{"-rounds", "0"},
		{"-time", "0"},
		{"-server", "memcached"},
		{"-beside", "nothing"},
		{"-cluster", "2"},
		{"-network", "-1ms"},
		{"-cluster", "3", "-network", "1ms"},
		{"quick"},
	} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
