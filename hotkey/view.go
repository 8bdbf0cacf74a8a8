package hotkey

import (
	"context"
	"strconv"
	"time"
	"unicode/utf8"
)

// view is what is shown.
type view struct {
	Client  string       `json:"client,omitempty"`
	Source  string       `json:"source"` // "local" or "redis"
	Classes []*classView `json:"classes"`
	Flush   *FlushStats  `json:"flush,omitempty"`
}

// classView is a class of it.
type classView struct {
	Class      string      `json:"class"`
	Tracked    bool        `json:"tracked"`
	SampleRate float64     `json:"sample_rate,omitempty"`
	Window     *windowView `json:"window,omitempty"`
	Set        string      `json:"set,omitempty"`
	Keys       []keyView   `json:"keys"`
}

type windowView struct {
	Start    time.Time `json:"start"`
	Seconds  float64   `json:"seconds"`
	Samples  uint64    `json:"samples"`
	Complete bool      `json:"complete"`
}

// keyView is a key. One that isn't valid UTF-8, as JSON and HTML have to be, is
// shown quoted as in Go.
type keyView struct {
	Key    string   `json:"key"`
	Quoted bool     `json:"quoted,omitempty"`
	Rate   *float64 `json:"rate,omitempty"`
	Count  uint64   `json:"count"`
	Lower  *uint64  `json:"lower,omitempty"`
	Upper  *uint64  `json:"upper,omitempty"`
	Share  *float64 `json:"share,omitempty"`

	Commands []CommandShare `json:"commands,omitempty"`
	Misses   *float64       `json:"misses,omitempty"`
	Node     string         `json:"node,omitempty"`
}

// localView shows the last windows.
func (t *Tracker) localView(n int) *view {
	v := &view{Source: "local"}
	for class := range numClasses {
		c := &classView{Class: class.String(), Keys: []keyView{}}
		v.Classes = append(v.Classes, c)
		w := t.window(class)
		if w == nil {
			continue
		}
		c.Tracked, c.SampleRate = true, w.rate
		c.Window = &windowView{Start: w.start.UTC(), Seconds: w.seconds(), Samples: w.samples, Complete: !w.live}
		for _, count := range w.top(n) {
			k := newKeyView(count)
			k.Rate, k.Lower, k.Upper, k.Share = &count.Rate, &count.Lower, &count.Upper, &count.Share
			k.Commands, k.Misses, k.Node = count.Commands, &count.Misses, count.Node
			c.Keys = append(c.Keys, k)
		}
	}
	if t.pending != nil {
		s := t.pending.snapshot()
		v.Flush = &s
	}
	return v
}

// globalView shows the sets.
func (t *Tracker) globalView(ctx context.Context, n int) (*view, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.FlushTimeout)
	defer cancel()
	v := &view{Source: "redis"}
	for class := range numClasses {
		counts, err := t.global(ctx, class, n)
		if err != nil {
			return nil, err
		}
		c := &classView{Class: class.String(), Tracked: true, Set: t.sets[class][0], Keys: []keyView{}}
		for _, count := range counts {
			c.Keys = append(c.Keys, newKeyView(count))
		}
		v.Classes = append(v.Classes, c)
	}
	return v, nil
}

func newKeyView(c Count) keyView {
	if !utf8.ValidString(c.Key) {
		return keyView{Key: strconv.Quote(c.Key), Quoted: true, Count: c.Count}
	}
	return keyView{Key: c.Key, Count: c.Count}
}
