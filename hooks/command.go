package hooks

import (
	"encoding"
	"reflect"
	"strconv"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
)

// Access says what a command does with data, or with one key of its.
type Access uint8

// The ways of access.
const (
	AccessNone  Access = iota // neither: PING, WATCH
	AccessRead                // only reads
	AccessWrite               // writes, or may write
)

// String returns "none", "read" or "write".
func (a Access) String() string {
	return word(a, "none", "read", "write")
}

// word keeps a value from elsewhere from panicking in a log line.
func word[T ~uint8](i T, words ...string) string {
	if int(i) < len(words) {
		return words[i]
	}
	return strconv.Itoa(int(i))
}

// Other is the name of every command that the command table doesn't have: what
// the user has typed there isn't bounded, and may be anything.
const Other = "other"

// Command is what is known of a command by its name. There is one for each
// command of the table and one for all others; none is ever made at run time, so
// that a name that comes from here is bounded. It must not be changed.
type Command struct {
	// Name is in upper case, with a subcommand: "GET", "CLIENT LIST"; [Other].
	Name string
	// Lower is Name in lower case.
	Lower string
	// Pipeline and Transaction are the names of batches that have no other
	// command: "PIPELINE GET", "MULTI GET".
	Pipeline, Transaction string
	// Index is different for every command, from 0 to NumCommands-1, for what
	// an observer keeps for each.
	Index int
	// Access is what it does with data.
	Access Access

	info      *command.Info
	handshake bool
	mayBlock  bool // its arguments say whether it does
	internal  bool // go-redis sends it to the nodes of a group for itself
}

// CommandOf returns what is known of cmd. It doesn't allocate.
func CommandOf(cmd redis.Cmder) *Command {
	args := cmd.Args()
	if len(args) == 0 {
		return commands.other
	}
	name, ok := text(args[0])
	if !ok {
		return commands.other
	}
	var sub []byte
	if len(args) > 1 {
		if sub, _ = text(args[1]); sub == nil {
			sub = empty // there is one, though: not the same as none
		}
	}
	if c := commands.of[command.Lookup(name, sub)]; c != nil {
		return c
	}
	return commands.other
}

var empty = []byte{}

// maxOption is more than the name of an option has.
const maxOption = 32

// Blocks reports whether cmd, which is one of this command, may hold its reply back
// for as long as its arguments say: BLPOP, WAIT, XREAD with BLOCK. How long such a
// call takes says nothing about the server.
func (c *Command) Blocks(cmd redis.Cmder) bool {
	if !c.mayBlock {
		return false
	}
	args := cmd.Args()
	var bytes [256]byte
	var parts [16]resp.Span // options are at the beginning
	buf, spans := bytes[:0], parts[:0]
	for _, arg := range args[:min(len(args), cap(spans))] {
		start, text := len(buf), printed(arg)
		buf = append(buf, text[:min(len(text), maxOption)]...)
		spans = append(spans, resp.Span{Start: int32(start), End: int32(len(buf))})
	}
	return command.Inspect(buf, spans, len(args)).Blocking
}

// NumCommands is the number of different [Command]s.
func NumCommands() int { return len(commands.all) }

// Commands returns all of them, in the order of their Index.
func Commands() []*Command { return append([]*Command(nil), commands.all...) }

// Known reports whether the command table has it.
func (c *Command) Known() bool { return c.info != nil }

// text returns an argument that is text, not copied.
func text(arg any) ([]byte, bool) {
	switch a := arg.(type) {
	case string:
		return unsafe.Slice(unsafe.StringData(a), len(a)), true
	case []byte:
		return a, true
	case *string:
		if a != nil {
			return text(*a)
		}
	}
	return nil, false
}

// Key is a key of a command.
type Key struct {
	Name   string
	Index  int // of the argument
	Access Access
}

// AppendKeys appends the keys of cmd to dst, in the order in which the server
// names them, as COMMAND GETKEYSANDFLAGS does: by the key specifications of the
// command table. Commands that aren't in it have none. Keys that were given as
// []byte are copied.
func AppendKeys(dst []Key, cmd redis.Cmder) []Key {
	c := CommandOf(cmd)
	if c.info == nil {
		return dst
	}
	args := cmd.Args()
	var buf [8]command.Key
	for _, k := range c.info.AppendKeysFunc(buf[:0], len(args), func(n int) []byte { return printed(args[n]) }) {
		dst = append(dst, Key{Name: keyName(args[k.Index]), Index: k.Index, Access: Access(k.Access)})
	}
	return dst
}

// keyName is a key as go-redis sends it.
func keyName(arg any) string {
	if s, ok := arg.(string); ok {
		return s
	}
	return string(printed(arg))
}

// printed is an argument as go-redis sends it, if it is of a kind that go-redis
// knows how to.
func printed(arg any) []byte {
	if b, ok := text(arg); ok {
		return b
	}
	switch a := arg.(type) {
	case time.Time:
		return a.AppendFormat(nil, time.RFC3339Nano)
	case *time.Time:
		if a == nil {
			a = &time.Time{}
		}
		return a.AppendFormat(nil, time.RFC3339Nano)
	case encoding.BinaryMarshaler:
		if b, err := a.MarshalBinary(); err == nil {
			return b
		}
		return nil
	}
	v := reflect.ValueOf(arg)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v = reflect.Zero(v.Type().Elem()) // as go-redis does
		} else {
			v = v.Elem()
		}
	}
	switch {
	case !v.IsValid():
	case v.CanInt():
		return strconv.AppendInt(nil, v.Int(), 10)
	case v.CanUint():
		return strconv.AppendUint(nil, v.Uint(), 10)
	case v.CanFloat():
		return strconv.AppendFloat(nil, v.Float(), 'f', -1, 64)
	case v.Kind() == reflect.Bool && v.Bool():
		return []byte("1")
	case v.Kind() == reflect.Bool:
		return []byte("0")
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return v.Bytes() // net.IP
	}
	return nil
}
