package testkit

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// fakeStore is the data of a fake; the fake's lock guards it.
type fakeStore struct {
	commands map[string]fakeCommand
	values   map[storeKey]storeValue
	versions map[storeKey]uint64 // changes with every write: what WATCH compares
}

type storeKey struct {
	db  int
	key string
}

// storeValue is a string or a list.
type storeValue struct {
	str     string
	list    []string
	isList  bool
	expires time.Time // zero: never
}

func newFakeStore() fakeStore {
	return fakeStore{
		commands: fakeCommands(),
		values:   map[storeKey]storeValue{},
		versions: map[storeKey]uint64{},
	}
}

func (s *fakeStore) get(k storeKey) (storeValue, bool) {
	v, ok := s.values[k]
	if ok && passed(v.expires) {
		s.remove(k)
		return storeValue{}, false
	}
	return v, ok
}

func (s *fakeStore) set(k storeKey, v storeValue) {
	s.versions[k]++
	s.values[k] = v
}

func (s *fakeStore) remove(k storeKey) {
	s.versions[k]++
	delete(s.values, k)
}

func (c *FakeConn) key(name string) storeKey { return storeKey{c.session.DB, name} }

// stringAt returns the string at a key, "" if there is none, or an error
// reply if it is a list.
func (c *FakeConn) stringAt(name string) (v storeValue, found bool, wrong []byte) {
	v, found = c.f.store.get(c.key(name))
	if v.isList {
		return v, found, wrongType()
	}
	return v, found, nil
}

func wrongType() []byte {
	return ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")
}

func notInteger() []byte { return ReplyError("ERR value is not an integer or out of range") }

func (c *FakeConn) cmdGet(args []string) []byte {
	v, found, wrong := c.stringAt(args[1])
	switch {
	case wrong != nil:
		return wrong
	case !found:
		return c.null()
	}
	return ReplyBulk(v.str)
}

// cmdSet knows NX, XX, GET, KEEPTTL, EX and PX.
func (c *FakeConn) cmdSet(args []string) []byte {
	k := c.key(args[1])
	old, found := c.f.store.get(k)
	v := storeValue{str: args[2]}
	var nx, xx, get bool
	for i := 3; i < len(args); i++ {
		switch opt := strings.ToUpper(args[i]); opt {
		case "NX":
			nx = true
		case "XX":
			xx = true
		case "GET":
			get = true
		case "KEEPTTL":
			v.expires = old.expires
		case "EX", "PX":
			i++
			if i == len(args) {
				return syntaxError()
			}
			n, err := strconv.ParseInt(args[i], 10, 64)
			if err != nil || n <= 0 {
				return ReplyError("ERR invalid expire time in 'set' command")
			}
			unit := time.Second
			if opt == "PX" {
				unit = time.Millisecond
			}
			v.expires = time.Now().Add(time.Duration(n) * unit)
		default:
			return syntaxError()
		}
	}
	before := c.null()
	if get && found {
		if old.isList {
			return wrongType()
		}
		before = ReplyBulk(old.str)
	}
	if nx && found || xx && !found {
		return before
	}
	c.f.store.set(k, v)
	if get {
		return before
	}
	return ReplySimple("OK")
}

func (c *FakeConn) cmdMGet(args []string) []byte {
	var replies [][]byte
	for _, name := range args[1:] {
		v, found, wrong := c.stringAt(name)
		if wrong != nil || !found {
			replies = append(replies, c.null())
			continue
		}
		replies = append(replies, ReplyBulk(v.str))
	}
	return ReplyArray(replies...)
}

func (c *FakeConn) cmdAppend(args []string) []byte {
	v, _, wrong := c.stringAt(args[1])
	if wrong != nil {
		return wrong
	}
	v.str += args[2]
	c.f.store.set(c.key(args[1]), v)
	return ReplyInt(int64(len(v.str)))
}

// cmdIncr is INCR, INCRBY and DECR.
func (c *FakeConn) cmdIncr(args []string) []byte {
	v, found, wrong := c.stringAt(args[1])
	if wrong != nil {
		return wrong
	}
	by := int64(1)
	if strings.EqualFold(args[0], "DECR") {
		by = -1
	}
	var err error
	if len(args) == 3 {
		if by, err = strconv.ParseInt(args[2], 10, 64); err != nil {
			return notInteger()
		}
	}
	n := int64(0)
	if found {
		if n, err = strconv.ParseInt(v.str, 10, 64); err != nil {
			return notInteger()
		}
	}
	v.str = strconv.FormatInt(n+by, 10)
	c.f.store.set(c.key(args[1]), v)
	return ReplyInt(n + by)
}

func (c *FakeConn) cmdDel(args []string) []byte {
	n := int64(0)
	for _, name := range args[1:] {
		if _, found := c.f.store.get(c.key(name)); found {
			c.f.store.remove(c.key(name))
			n++
		}
	}
	return ReplyInt(n)
}

func (c *FakeConn) cmdExists(args []string) []byte {
	n := int64(0)
	for _, name := range args[1:] {
		if _, found := c.f.store.get(c.key(name)); found {
			n++
		}
	}
	return ReplyInt(n)
}

func (c *FakeConn) cmdPTTL(args []string) []byte {
	v, found := c.f.store.get(c.key(args[1]))
	switch {
	case !found:
		return ReplyInt(-2)
	case v.expires.IsZero():
		return ReplyInt(-1)
	}
	return ReplyInt(time.Until(v.expires).Milliseconds())
}

func (c *FakeConn) cmdDBSize([]string) []byte {
	n := int64(0)
	for k, v := range c.f.store.values {
		if k.db == c.session.DB && !passed(v.expires) {
			n++
		}
	}
	return ReplyInt(n)
}

func (c *FakeConn) cmdFlushAll([]string) []byte {
	for k := range c.f.store.values {
		c.f.store.remove(k)
	}
	return ReplySimple("OK")
}

// connsLocked returns a copy, because ending a connection removes it.
func (f *Fake) connsLocked() []*FakeConn { return slices.Clone(f.conns) }
