package debugpage

import (
	"slices"
	"time"

	"github.com/everpool/everpool/pooler"
)

// event is something that has happened to a node lately.
type event struct {
	What  string    `json:"what"`
	Times int       `json:"times"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Error string    `json:"error,omitempty"` // of the last
	kind  pooler.EventKind
	state pooler.State
}

func eventsOf(n *pooler.NodeStatus) []event {
	all := []event{}
	for _, h := range slices.Backward(n.Events) {
		e := event{What: happened(h.Event), Times: h.Times, First: h.First.UTC(), Last: h.Time.UTC(), kind: h.Kind, state: h.State}
		if h.Err != nil {
			e.Error = errorOf(n, h.Err.Error())
		}
		all = append(all, e)
	}
	return all
}

// happened says what an event is, in words.
func happened(ev pooler.Event) string {
	switch ev.Kind {
	case pooler.EventState:
		if ev.State == pooler.StateUp && ev.Duration > 0 {
			return "up again, after " + lasting(ev.Duration)
		}
		return ev.State.String()
	case pooler.EventDial:
		if ev.Err != nil {
			return "a dial failed"
		}
		return "a connection was opened"
	case pooler.EventClose:
		return "a connection was closed: " + string(ev.Reason)
	case pooler.EventRetire:
		return "all connections are retired"
	case pooler.EventSilent:
		return "replies are owed, and none comes"
	case pooler.EventPin:
		return "a connection was pinned: " + ev.Pin
	}
	return ev.Kind.String()
}

// events shows what has happened, with the day, since it may have been long ago.
func (p page) events(all []event) {
	if len(all) == 0 {
		return
	}
	p.raw(`<table class="events">` + "\n<thead><tr><th>what has happened</th><th>times</th><th>last (" + p.view.At.Format("MST") + ")</th></tr></thead>\n<tbody>\n")
	for _, e := range all {
		p.raw("<tr><td>")
		if e.kind == pooler.EventState {
			p.element("span", "state "+e.state.String(), e.What)
		} else {
			p.text(visible(e.What))
		}
		if e.Error != "" {
			p.element("span", "soft", " ("+visible(e.Error)+")")
		}
		p.raw("</td>")
		p.element("td", "", grouped(e.Times))
		p.element("td", "", e.Last.Format("2006-01-02 15:04:05"))
		p.raw("</tr>\n")
	}
	p.raw("</tbody></table>\n")
}
