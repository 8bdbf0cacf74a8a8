package poolview

import (
	"sync"

	"github.com/everpool/everpool/internal/guard"
)

// View reads pools for an exporter: what is read of pools of one name is put together,
// and counters go on over pools that come and go.
type View struct {
	Metrics []*Metric
	Doing   string // what is done, for the error of what panics

	// reading is held for a whole collection, from before the pools are read: of two
	// at a time the later could have the older numbers, and take that for a restart.
	// Nothing else takes it.
	reading  sync.Mutex
	counters Counters[Source, Series]
}

// Series is one value of a metric.
type Series struct {
	*Metric
	Pool  string // its name; "" of a metric that is Whole
	Value string // of the metric's label; "" if it has none
}

// Collect reads the pools and calls emit with all that they say, once for each series.
// read and name are, or call, the user's; should they panic, that is the error, and
// nothing is emitted: half of what is added up would look like a counter that has gone
// back.
func (v *View) Collect(read func() []Pool, name func(*Pool) string, emit func(s Series, n int64)) error {
	v.reading.Lock()
	defer v.reading.Unlock()
	gauges, counts, err := v.read(read, name)
	if err != nil {
		return err
	}
	for s, n := range gauges {
		emit(s, n)
	}
	v.counters.Begin()
	for _, c := range counts {
		v.counters.Count(c.from.Source, c.series, c.n, c.from.Sum)
	}
	v.counters.Each(emit)
	v.counters.End()
	return nil
}

// count is what was read of a counter.
type count struct {
	series Series
	from   *Pool
	n      int64
}

func (v *View) read(read func() []Pool, name func(*Pool) string) (gauges map[Series]int64, counts []count, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = guard.PanicError(v.Doing, p)
		}
	}()
	gauges = make(map[Series]int64)
	pools := read()
	for i := range pools {
		p := &pools[i]
		named := name(p)
		for _, m := range v.Metrics {
			if m.read == nil {
				continue
			}
			m.read(p, func(value string, n int64) {
				s := Series{m, named, value}
				if m.Whole {
					s.Pool = ""
				}
				before, there := gauges[s]
				switch {
				case !m.tells(p, value):
				case m.Kind == Counter:
					counts = append(counts, count{s, p, n})
				case there:
					gauges[s] = m.merged(before, n)
				default:
					gauges[s] = n
				}
			})
		}
	}
	return gauges, counts, nil
}
