package command

import (
	"strconv"
	"strings"
)

var (
	classNames  = [...]string{"shareable", "session", "exclusive", "pinning", "local"}
	pinNames    = [...]string{"none", "multi", "watch", "pubsub", "monitor", "tracking", "maint", "reply", "client-id", "script-debug", "sync", "himport", "reset", "unknown", "session"}
	effectNames = [...]string{"read", "idempotent", "unsafe"}
	txNames     = [...]string{"none", "multi", "exec", "discard", "watch", "unwatch"}
	accessNames = [...]string{"none", "read", "write"}
	modeNames   = [...]string{"", "RO", "RW", "OW", "RM"}
	slotNames   = [...]string{"proto", "auth", "name", "db", "readonly", "lib-name", "lib-ver", "no-evict", "no-touch"}
)

// word keeps a value from elsewhere from panicking in a log line.
func word(words []string, i uint8) string {
	if int(i) < len(words) {
		return words[i]
	}
	return strconv.Itoa(int(i))
}

// set writes a bitset as "a,b", or "none".
func set(words []string, bits uint32) string {
	if bits == 0 {
		return "none"
	}
	var b strings.Builder
	for i := range 32 {
		if bits&(1<<i) == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(word(words, uint8(i)))
	}
	return b.String()
}

// String returns "shareable", "session", ....
func (c Class) String() string { return word(classNames[:], uint8(c)) }

// String returns the reason in the form that metrics use: "multi", "client-id".
func (p Pin) String() string { return word(pinNames[:], uint8(p)) }

// String returns "read", "idempotent" or "unsafe".
func (e Effect) String() string { return word(effectNames[:], uint8(e)) }

// String returns "multi", "exec", ..., or "none".
func (t Tx) String() string { return word(txNames[:], uint8(t)) }

// String returns "none", "read" or "write".
func (a Access) String() string { return word(accessNames[:], uint8(a)) }

// String returns the flag that servers use: "RO", "RW", "OW", "RM" or "".
func (m Mode) String() string { return word(modeNames[:], uint8(m)) }

// String returns the slots with commas between: "proto,auth".
func (s Slots) String() string { return set(slotNames[:], uint32(s)) }

// String returns the flags as COMMAND names them, with commas between.
func (f Flags) String() string { return set(flagNames[:], uint32(f)) }
