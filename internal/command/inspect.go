package command

import "github.com/everpool/everpool/internal/resp"

// Facts is what a request's arguments make of its command.
type Facts struct {
	// Info is nil for a command that isn't in the table.
	Info     *Info
	Slots    Slots // not 0 for Session only
	Class    Class
	Pin      Pin // not PinNone for Pinning only
	Effect   Effect
	Blocking bool
	// Fixed says that this holds for every request with the same first argument
	// and number of arguments.
	Fixed bool
}

// Inspect classifies a request. Argument i of it is
// buf[spans[i].Start:spans[i].End], the name being argument 0; total is the
// number of arguments announced. spans may be shorter than total, for a large or
// unfinished request: what the missing ones could change is then decided on the
// safe side. At least the name, and a container's subcommand, should be there:
// without them the command is unknown.
func Inspect(buf []byte, spans []resp.Span, total int) Facts {
	info := (*Info)(nil)
	switch n := min(len(spans), total); {
	case n > 1:
		info = Lookup(part(buf, spans[0]), part(buf, spans[1]))
	case n == 1:
		info = Lookup(part(buf, spans[0]), nil)
	}
	switch {
	case info == nil:
		return Facts{Class: Pinning, Pin: PinUnknown, Effect: Unsafe}
	case info.rule == ruleNone:
		return info.facts()
	}
	f := info.facts()
	a := args{buf: buf, spans: spans, total: total}
	a.apply(info.rule, &f)
	return f
}

func (i *Info) facts() Facts {
	return Facts{Info: i, Slots: i.Slots, Class: i.Class, Pin: i.Pin, Effect: i.Effect, Blocking: i.Blocking, Fixed: i.fixed}
}

func part(buf []byte, s resp.Span) []byte { return buf[s.Start:s.End] }

// args is a request that may not be here entirely.
type args struct {
	buf   []byte
	spans []resp.Span
	total int
}

// at needs seen(i).
func (a *args) at(i int) []byte { return part(a.buf, a.spans[i]) }

// seen reports whether argument i is here.
func (a *args) seen(i int) bool { return i < len(a.spans) && i < a.total }

// whole reports whether all arguments are here.
func (a *args) whole() bool { return len(a.spans) >= a.total }
