package command

import "bytes"

// rule names how a command's arguments improve on, or in the case of HELLO, SETINFO
// and ACL LOG spoil, what Info says. The generator assigns them.
type rule uint8

const (
	ruleNone rule = iota
	ruleHello
	ruleSetInfo
	ruleReply
	ruleTracking
	ruleXRead
	ruleTSRead
	ruleSet
	ruleAddScored
	ruleGetEx
	ruleHGetEx
	ruleHSetEx
	ruleSort
	ruleGeoRadius
	ruleBitField
	ruleJSONSet
	ruleACLLog
	ruleMigrate // for keys only
)

// apply sees an f that is filled from the Info.
func (a *args) apply(r rule, f *Facts) {
	switch r {
	case ruleHello:
		a.hello(f)
	case ruleSetInfo:
		a.setInfo(f)
	case ruleReply:
		a.changesNothing("ON", f)
	case ruleTracking:
		a.changesNothing("OFF", f)
	case ruleXRead:
		a.mayBlock(1, f)
	case ruleTSRead:
		a.mayBlock(3, f) // past the key, which may read "block"
	case ruleSet:
		f.improve(Idempotent, a.onlyExpiry(3, a.total))
		f.Fixed = a.total == 3
	case ruleHSetEx:
		f.improve(Idempotent, a.onlyExpiry(2, a.find(2, "FIELDS")))
	case ruleGetEx:
		f.improve(Idempotent, a.keepsValue(2, a.total))
		f.improve(Read, a.total == 2)
	case ruleHGetEx:
		f.improve(Idempotent, a.keepsValue(2, a.find(2, "FIELDS")))
		f.improve(Read, a.seen(2) && is(a.at(2), "FIELDS"))
	case ruleAddScored:
		f.improve(Idempotent, a.seen(2) && number(a.at(2)))
	case ruleSort:
		f.improve(Read, a.whole() && a.find(2, "STORE") == a.total)
	case ruleGeoRadius:
		f.improve(Read, a.whole() && a.find(4, "STORE") == a.total && a.find(4, "STOREDIST") == a.total)
	case ruleBitField:
		f.improve(Read, a.whole() && onlyGets(a.total, a.at))
	case ruleJSONSet:
		f.improve(Idempotent, a.total == 4 && a.seen(2) && plainPath(a.at(2)))
	case ruleACLLog:
		if a.total > 2 && (!a.seen(2) || is(a.at(2), "RESET")) {
			f.Effect, f.Class = Unsafe, Exclusive
		}
	}
}

func (f *Facts) improve(to Effect, proven bool) {
	if proven {
		f.Effect = to
	}
}

// hello reads HELLO [version [AUTH user password] [SETNAME name]]. Without a
// version nothing changes; the reply tells the connection's own id, so it is no
// request for a shared one.
func (a *args) hello(f *Facts) {
	if a.total == 1 {
		f.Class, f.Slots = Exclusive, 0
		return
	}
	for i := 2; i < a.total; {
		switch {
		case !a.seen(i):
			f.unrecordable()
			return
		case is(a.at(i), "AUTH"):
			f.Slots |= SlotAuth
			i += 3
		case is(a.at(i), "SETNAME"):
			f.Slots |= SlotName
			i += 2
		default:
			f.unrecordable()
			return
		}
	}
}

// setInfo reads CLIENT SETINFO LIB-NAME|LIB-VER value.
func (a *args) setInfo(f *Facts) {
	switch {
	case !a.seen(2):
		f.unrecordable()
	case is(a.at(2), "LIB-NAME"):
		f.Slots = SlotLibName
	case is(a.at(2), "LIB-VER"):
		f.Slots = SlotLibVer
	default:
		f.unrecordable()
	}
}

func (f *Facts) unrecordable() { f.Class, f.Pin, f.Slots = Pinning, PinSession, 0 }

// changesNothing: with that word a connection stays as each is that no handle keeps. One that
// is kept for what was said before stays kept.
func (a *args) changesNothing(word string, f *Facts) {
	if a.total == 3 && a.seen(2) && is(a.at(2), word) {
		f.Class, f.Pin = Exclusive, PinNone
	}
}

// mayBlock reads the options from argument i up to STREAMS or the end. Only if
// it knows all of them, and none is BLOCK, the command doesn't block.
func (a *args) mayBlock(i int, f *Facts) {
	for i < a.total {
		if !a.seen(i) {
			return
		}
		switch o := a.at(i); {
		case is(o, "STREAMS"):
			i = a.total
		case is(o, "NOACK"):
			i++
		case is(o, "GROUP"): // a group or a consumer may read "block"
			i += 3
		case is(o, "COUNT"), is(o, "MAXCOUNT"), is(o, "MAXSIZE"), is(o, "CLAIM"), is(o, "MAX_COUNT"):
			i += 2
		default: // BLOCK, or an option of a newer server
			return
		}
	}
	f.Class, f.Blocking = Shareable, false
}

// onlyExpiry reports whether the arguments from i up to end are all here and
// nothing but when the value shall expire. Other options make the command depend
// on what was there, or tell it.
func (a *args) onlyExpiry(i, end int) bool {
	for i < end {
		if !a.seen(i) {
			return false
		}
		switch o := a.at(i); {
		case is(o, "KEEPTTL"):
			i++
		case is(o, "EX"), is(o, "PX"), is(o, "EXAT"), is(o, "PXAT"):
			i += 2
		default:
			return false
		}
	}
	return true
}

// keepsValue reports whether the arguments from i up to end are all here and leave
// the value that GETEX reads in place for a second run. EXAT and PXAT don't: a time
// that has passed deletes it.
func (a *args) keepsValue(i, end int) bool {
	for i < end {
		if !a.seen(i) {
			return false
		}
		switch o := a.at(i); {
		case is(o, "PERSIST"):
			i++
		case is(o, "EX"), is(o, "PX"):
			i += 2
		default:
			return false
		}
	}
	return true
}

// find returns the index of the first argument from i that reads word, or total.
func (a *args) find(i int, word string) int {
	for ; a.seen(i); i++ {
		if is(a.at(i), word) {
			return i
		}
	}
	return a.total
}

// number reports whether a ZADD score or a GEOADD longitude, and so no option,
// is here.
func number(arg []byte) bool {
	if len(arg) == 0 {
		return false
	}
	switch c := arg[0]; {
	case '0' <= c && c <= '9', c == '-', c == '+', c == '.':
		return true
	}
	return is(arg, "INF") || is(arg, "INFINITY")
}

// plainPath reports whether setting a JSON path twice is as setting it once. A
// recursive path or a filter may match more, or less, in the value just set.
func plainPath(path []byte) bool {
	return !bytes.Contains(path, []byte("..")) && bytes.IndexByte(path, '?') < 0
}

// onlyGets reports whether the BITFIELD of n arguments has no other
// subcommands than GET.
func onlyGets(n int, at func(int) []byte) bool {
	for i := 2; i < n; {
		switch o := at(i); {
		case is(o, "GET"):
			i += 3
		case is(o, "OVERFLOW"):
			i += 2
		default:
			return false
		}
	}
	return true
}
