package command

import (
	"encoding/binary"
	"strings"
)

// Lookup finds a command by its name and, for a container command, its second
// argument, in any case. sub is nil if there is none, or if it isn't known yet;
// for commands that aren't containers it is ignored. Lookup returns nil for what
// isn't in the table: an unknown name, an unknown subcommand, and a container
// without one, unless it is a command by itself (COMMAND).
func Lookup(name, sub []byte) *Info {
	info := find(name)
	switch {
	case info == nil || !info.Container:
		return info
	case sub != nil:
		return findSub(info, name, sub)
	case info.Arity == -1:
		return info
	}
	return nil
}

// IsContainer reports whether name, in any case, is a command whose second
// argument names the command: CLIENT, CONFIG, ....
func IsContainer(name []byte) bool {
	info := find(name)
	return info != nil && info.Container
}

// index is a hash table with linear probing, sparsely filled: places in table,
// plus one. A Go map with the name folded to upper case first takes twice the
// time, on a path that every request takes.
type index [1 << indexBits]uint16

const indexBits = 11

// Subcommands have an index of their own, so that a single argument "CLIENT
// SETNAME", which no server knows, isn't found.
var names, subnames = func() (n, s index) {
	for i := range table {
		name, sub, isSub := strings.Cut(table[i].Name, " ")
		h := hash([]byte(name))
		table[i].fixed = !isSub && !table[i].Container && table[i].rule == ruleNone
		if isSub {
			s.add(mix(h, hash([]byte(sub))), i)
		} else {
			n.add(h, i)
		}
	}
	return n, s
}()

func (x *index) add(h hashed, i int) {
	p := h.place()
	for x[p] != 0 {
		p = p.next()
	}
	x[p] = uint16(i + 1)
}

// find finds a command by its first argument alone.
func find(name []byte) *Info {
	for p := hash(name).place(); names[p] != 0; p = p.next() {
		if info := &table[names[p]-1]; is(name, info.Name) {
			return info
		}
	}
	return nil
}

func findSub(container *Info, name, sub []byte) *Info {
	n := len(container.Name)
	for p := mix(hash(name), hash(sub)).place(); subnames[p] != 0; p = p.next() {
		info := &table[subnames[p]-1]
		if len(info.Name) > n && info.Name[n] == ' ' && info.Name[:n] == container.Name && is(sub, info.Name[n+1:]) {
			return info
		}
	}
	return nil
}

// hashed is the same for a name in any case.
type hashed uint64

// place is a place in an index.
type place uint16

func (h hashed) place() place { return place(h >> (64 - indexBits)) }

func (p place) next() place { return (p + 1) % (1 << indexBits) }

// hash reads the first and the last eight bytes and the length. It may read
// equal for what differs in punctuation: is decides.
func hash(b []byte) hashed {
	const noCase = ^uint64(0x2020202020202020)
	var x, y uint64
	switch n := len(b); {
	case n >= 8:
		x, y = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[n-8:])
	case n >= 4:
		x, y = uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n > 0:
		x = uint64(b[0]) | uint64(b[n/2])<<8 | uint64(b[n-1])<<16
	}
	return mix(hashed(x&noCase+uint64(len(b))), hashed(y&noCase))
}

func mix(a, b hashed) hashed {
	a = (a ^ b<<23 ^ b>>41) * 0x9e3779b97f4a7c15
	return (a ^ a>>32) * 0xd6e8feb86659fd93
}

// is reports whether arg is word, which is in upper case, in any case.
func is(arg []byte, word string) bool {
	if len(arg) != len(word) {
		return false
	}
	for i, c := range arg {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}
