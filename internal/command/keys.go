package command

import (
	"slices"
	"strings"
)

// Access says what a command does with a key.
type Access uint8

// The ways of access.
const (
	AccessNone  Access = iota // neither: WATCH
	AccessRead                // RO
	AccessWrite               // RW, OW, RM
)

// Mode is the flag of a key spec that tells the access: read-only, read-write,
// overwrite, remove.
type Mode uint8

// The modes.
const (
	ModeNone Mode = iota
	RO
	RW
	OW
	RM
)

// Begin says how the first of a spec's keys is found.
type Begin uint8

// The ways to begin a search for keys.
const (
	BeginUnknown Begin = iota
	BeginIndex         // at argument At
	BeginKeyword       // after Keyword, looked for from argument At
)

// Find says how many keys there are from the first one.
type Find uint8

// The ways to find keys.
const (
	FindUnknown Find = iota
	FindRange        // up to Last, with Step and Limit
	FindKeynum       // as many as an argument says
)

// KeySpec is a key specification as COMMAND tells it. Redis documents it under
// "Key specifications".
type KeySpec struct {
	Mode Mode
	// NotKey: an argument that is routed like a key but isn't one (a shard
	// channel). Incomplete: there may be more keys than the spec finds.
	// VariableFlags: Mode is the worst case.
	NotKey, Incomplete, VariableFlags bool

	Begin   Begin
	At      int16 // from the end when negative
	Keyword string

	Find Find
	// Last key, relative to the first; negative: from the end. Limit: with Last
	// -1, only the first 1/Limit of the arguments are keys.
	Last, Limit int16
	Step        int16
	// NumAt is where the number of keys is, FirstKey where the first key is, both
	// relative to where the search began.
	NumAt, FirstKey int16
}

// Access is what the mode means for the data behind a key.
func (s *KeySpec) Access() Access {
	switch s.Mode {
	case RO:
		return AccessRead
	case RW, OW, RM:
		return AccessWrite
	}
	return AccessNone
}

// A Key is a key among a request's arguments.
type Key struct {
	Index  int
	Access Access
}

// KeysAdjacent reports whether the command is by itself, not a module's, has keys, and no
// values between them: what COMMAND tells as a step is 1 then, or 0, which go-redis takes for 1.
func (i *Info) KeysAdjacent() bool {
	if i.Module || i.Container || strings.Contains(i.Name, " ") {
		return false
	}
	return len(i.Keys) > 0 && !slices.ContainsFunc(i.Keys, func(s KeySpec) bool { return s.Find == FindUnknown || s.Step > 1 })
}

// AppendKeys appends the keys among args, a whole request of this command with
// its name, to dst. What the server would refuse gives no keys, or those that
// are plain to see.
func (i *Info) AppendKeys(dst []Key, args [][]byte) []Key {
	return i.AppendKeysFunc(dst, len(args), func(n int) []byte { return args[n] })
}

// AppendKeysFunc is AppendKeys for arguments that are kept in another form: n of
// them, each given by arg. Only those that decide where the keys are, such as a
// number of keys, are asked for.
func (i *Info) AppendKeysFunc(dst []Key, n int, arg func(int) []byte) []Key {
	switch {
	case i.rule == ruleSort:
		return sortKeys(dst, n, arg)
	case i.rule == ruleMigrate:
		return migrateKeys(dst, n, arg)
	}
	for k := range i.Keys {
		s := &i.Keys[k]
		if s.NotKey {
			continue
		}
		access := s.Access()
		switch {
		case i.Tx == TxWatch:
			access = AccessNone
		case i.rule == ruleBitField && onlyGets(n, arg):
			access = AccessRead
		}
		first, ok := s.begin(n, arg)
		if !ok {
			continue
		}
		first, last, step := s.find(first, n, arg)
		for ; first <= last && first < n; first += step {
			dst = append(dst, Key{first, access})
		}
	}
	return dst
}

// begin finds where the search begins.
func (s *KeySpec) begin(n int, arg func(int) []byte) (int, bool) {
	switch s.Begin {
	case BeginIndex:
		return int(s.At), true
	case BeginKeyword:
		from, step := int(s.At), 1
		if from < 0 {
			from, step = n+from, -1
		}
		for i := from; 0 < i && i < n; i += step {
			if is(arg(i), s.Keyword) {
				return i + 1, true
			}
		}
	}
	return 0, false
}

// find returns the first and the last key, and the step between keys.
func (s *KeySpec) find(begin, n int, arg func(int) []byte) (first, last, step int) {
	step = max(1, int(s.Step))
	switch s.Find {
	case FindRange:
		switch {
		case s.Last >= 0:
			last = begin + int(s.Last)
		case s.Limit > 1:
			last = begin + (n-begin)/int(s.Limit) + int(s.Last)
		default:
			last = n + int(s.Last)
		}
		return begin, last, step
	case FindKeynum:
		at := begin + int(s.NumAt)
		if at >= n {
			break
		}
		first = begin + int(s.FirstKey)
		// More keys than arguments: the server refuses, whatever the rest says.
		if num, ok := count(arg(at), n); ok && first+(num-1)*step < n {
			return first, first + (num-1)*step, step
		}
	}
	return 1, 0, step
}

// sortKeys finds those of SORT key [BY p] [LIMIT a b] [GET p ...] [STORE key].
// COMMAND calls the latter unknown, since it may be anywhere.
func sortKeys(dst []Key, n int, arg func(int) []byte) []Key {
	if n < 2 {
		return dst
	}
	dst = append(dst, Key{1, AccessRead})
	store := 0
	for i := 2; i < n; i++ {
		switch o := arg(i); {
		case is(o, "LIMIT"):
			i += 2
		case is(o, "GET"), is(o, "BY"):
			i++
		case is(o, "STORE") && i+1 < n:
			i++
			store = i // the last one counts
		}
	}
	if store > 0 {
		dst = append(dst, Key{store, AccessWrite})
	}
	return dst
}

// migrateKeys finds those of MIGRATE host port key|"" db timeout [COPY]
// [REPLACE] [AUTH p] [AUTH2 u p] [KEYS key ...], where a password may be "keys".
func migrateKeys(dst []Key, n int, arg func(int) []byte) []Key {
	if n < 6 {
		return dst
	}
	if len(arg(3)) > 0 {
		return append(dst, Key{3, AccessWrite})
	}
	for i := 6; i < n; i++ {
		switch o := arg(i); {
		case is(o, "AUTH"):
			i++
		case is(o, "AUTH2"):
			i += 2
		case is(o, "KEYS"):
			for i++; i < n; i++ {
				dst = append(dst, Key{i, AccessWrite})
			}
		}
	}
	return dst
}

// count reads a number of keys, which can't be more than limit.
func count(arg []byte, limit int) (int, bool) {
	n := 0
	for _, c := range arg {
		if c < '0' || '9' < c {
			return 0, false
		}
		if n = n*10 + int(c-'0'); n > limit {
			return 0, false
		}
	}
	return n, len(arg) > 0
}
