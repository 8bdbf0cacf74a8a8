package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Workload is what every goroutine does over and over. Reads and writes are
// mixed 80 to 20 where there are both. One operation is one call: a whole
// pipeline is one.
type Workload struct {
	Name     string
	Kind     Kind
	Size     int // of a value
	Commands int // of a pipeline
}

// Kind says which commands a workload consists of.
type Kind uint8

// The kinds of workloads.
const (
	KindGet Kind = iota
	KindSet
	KindMixed
	KindIncr
	KindPipeline // mixed as well
)

// workloads are all, in the order in which they run.
var workloads = []string{
	"get-32", "get-1k", "get-16k", "get-64k",
	"set-32", "set-1k", "set-16k", "set-64k",
	"mixed-32", "mixed-1k", "mixed-16k", "mixed-64k",
	"incr-1",
	"pipeline10-32", "pipeline1000-32",
}

// Workloads returns the names of all workloads that the full comparison has.
func Workloads() []string { return append([]string(nil), workloads...) }

// ParseWorkload returns the workload of a name such as get-32, set-1k, mixed-64k
// pipeline10-32 or incr-1: its kind, and the size of its values. Sizes and pipelines
// other than those of [Workloads] work too.
func ParseWorkload(name string) (Workload, error) {
	w := Workload{Name: name}
	kind, size, _ := strings.Cut(name, "-")
	switch commands, pipeline := strings.CutPrefix(kind, "pipeline"); {
	case kind == "get":
		w.Kind = KindGet
	case kind == "set":
		w.Kind = KindSet
	case kind == "incr" && size == "1":
		w.Kind = KindIncr
	case kind == "mixed":
		w.Kind = KindMixed
	case pipeline:
		w.Kind = KindPipeline
		w.Commands, _ = strconv.Atoi(commands)
	}
	bytes, kilo := strings.CutSuffix(size, "k")
	w.Size, _ = strconv.Atoi(bytes)
	if kilo {
		w.Size <<= 10
	}
	if w.Size < 1 || w.Size > 1<<26 || w.Kind == KindGet && kind != "get" || w.Kind == KindPipeline && w.Commands < 1 {
		return Workload{}, fmt.Errorf("workload %q; allowed are %s and the like", name, strings.Join(workloads, ", "))
	}
	return w, nil
}

// keyCount is the size of the key space: large enough that no key is special,
// small enough for the server's memory with values of 64 KiB.
const keyCount = 100

var keys = func() (all [keyCount]string) {
	for i := range all {
		all[i] = fmt.Sprintf("bench:%02d", i)
	}
	return all
}()

// value is what all keys of the workload hold.
func (w Workload) value() string {
	if w.Kind == KindIncr {
		return "0"
	}
	return strings.Repeat("x", w.Size)
}

// errLength means that a client returned something else than was stored.
var errLength = errors.New("the value has the wrong length")

// job is a workload in the hands of one goroutine.
type job struct {
	client Client
	work   Workload
	value  string
	at     int       // of the next operation: goroutines begin at different ones
	batch  []Command // for pipelines
}

func newJob(c Client, w Workload, value string, id int) *job {
	j := &job{client: c, work: w, value: value, at: id * 7, batch: make([]Command, w.Commands)}
	for i := range j.batch {
		j.batch[i] = Command{Key: keys[(j.at+i)%keyCount]}
		if writes(i) {
			j.batch[i].Value = value
		}
	}
	return j
}

// writes says which operations of a mix are writes: one of five.
func writes(i int) bool { return i%5 == 4 }

// do is one operation.
func (j *job) do(ctx context.Context) error {
	j.at++
	key := keys[j.at%keyCount]
	switch {
	case j.work.Kind == KindPipeline:
		return j.pipeline(ctx)
	case j.work.Kind == KindIncr:
		return j.client.Incr(ctx, key)
	case j.work.Kind == KindSet, j.work.Kind == KindMixed && writes(j.at):
		return j.client.Set(ctx, key, j.value)
	}
	got, err := j.client.Get(ctx, key)
	if err == nil && len(got) != j.work.Size {
		return errLength
	}
	return err
}

func (j *job) pipeline(ctx context.Context) error {
	if err := j.client.Pipeline(ctx, j.batch); err != nil {
		return err
	}
	for i := range j.batch {
		if c := &j.batch[i]; c.Value == "" && len(c.Got) != j.work.Size {
			return errLength
		}
	}
	return nil
}
