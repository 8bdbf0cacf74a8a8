package bench

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestParseWorkload(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Workload{
		"get-32":            {Kind: KindGet, Size: 32},
		"set-1k":            {Kind: KindSet, Size: 1 << 10},
		"mixed-64k":         {Kind: KindMixed, Size: 64 << 10},
		"pipeline1000-32":   {Kind: KindPipeline, Size: 32, Commands: 1000},
		"pipeline3-1048576": {Kind: KindPipeline, Size: 1 << 20, Commands: 3},
	} {
		want.Name = name
		if got, err := ParseWorkload(name); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, name := range Workloads() {
		if _, err := ParseWorkload(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "get", "get-", "get-0", "get--1", "del-32", "-32", "pipeline-32", "pipeline0-32", "get-999999k"} {
		if got, err := ParseWorkload(name); err == nil {
			t.Errorf("%s is taken: %+v", name, got)
		}
	}
}

// counting counts what a job does.
type counting struct{ gets, sets, incrs int }

func (c *counting) Get(context.Context, string) (string, error) {
	c.gets++
	return "xx", nil
}

func (c *counting) Set(_ context.Context, _, _ string) error {
	c.sets++
	return nil
}

func (c *counting) Incr(_ context.Context, _ string) error {
	c.incrs++
	return nil
}

func (c *counting) Pipeline(_ context.Context, batch []Command) error {
	for i := range batch {
		if batch[i].Value != "" {
			c.sets++
		} else {
			c.gets++
			batch[i].Got = "xx"
		}
	}
	return nil
}

func (c *counting) Close() error { return nil }

// A mix has one write in five, in pipelines too, and a value that has the wrong
// length is an error.
func TestJobsAreWhatTheirNameSays(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]counting{
		"get-2":        {gets: 100},
		"set-2":        {sets: 100},
		"mixed-2":      {gets: 80, sets: 20},
		"incr-1":       {incrs: 100},
		"pipeline10-2": {gets: 800, sets: 200},
	} {
		w, err := ParseWorkload(name)
		if err != nil {
			t.Fatal(err)
		}
		c := new(counting)
		j := newJob(c, w, w.value(), 3)
		for range 100 {
			if err := j.do(t.Context()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if *c != want {
			t.Errorf("%s: %+v; want %+v", name, *c, want)
		}
		j.work.Size = 3
		if err := j.do(t.Context()); want.gets > 0 && !errors.Is(err, errLength) {
			t.Errorf("%s with wrong values: %v", name, err)
		}
	}
}

// The connection in memory answers each command, in whatever pieces it comes and
// is read.
func TestMemoryConnAnswersAnyPieces(t *testing.T) {
	t.Parallel()
	request := "*2\r\n$5\r\nhello\r\n$1\r\n3\r\n" +
		"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$4\r\n\r\n*1\r\n" +
		"*2\r\n$3\r\nGET\r\n$0\r\n\r\n"
	want := string(helloReply) + string(okReply) + string(bulk(100))
	for piece := 1; piece <= len(request); piece++ {
		c := newMemoryConn(bulk(100))
		for rest := []byte(request); len(rest) > 0; {
			n := min(piece, len(rest))
			if m, err := c.Write(rest[:n]); m != n || err != nil {
				t.Fatalf("pieces of %d: %d, %v", piece, m, err)
			}
			rest = rest[n:]
		}
		var got bytes.Buffer
		buf := make([]byte, piece)
		for {
			n, err := c.Read(buf)
			if got.Write(buf[:n]); err != nil {
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				break
			}
		}
		if got.String() != want {
			t.Fatalf("pieces of %d: %q; want %q", piece, got.String(), want)
		}
	}
	for _, request := range []string{"\n", "PING\r\n", "$3\r\n", "*0\r\n"} {
		if _, err := newMemoryConn(nil).Write([]byte(request)); err == nil {
			t.Errorf("%q is taken", request)
		}
	}
}

func TestParseInfo(t *testing.T) {
	t.Parallel()
	info := "# Clients\r\nconnected_clients:21\r\n# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:0.25\r\nused_cpu_sys_children:9\r\n"
	got, err := parseInfo(info)
	if want := (serverFigures{sockets: 20, cpu: 1750 * time.Millisecond}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := parseInfo(strings.ReplaceAll(info, "used_cpu_user", "other")); err == nil {
		t.Error("a reply without used_cpu_user is taken")
	}
}
