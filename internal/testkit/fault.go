package testkit

import (
	"net"
	"slices"
	"sync"
)

// Direction is one of the two directions of a connection.
type Direction int

// The directions, as a client sees them.
const (
	ToServer Direction = iota // what the client writes
	ToClient                  // what the client reads
)

// String returns the direction's name.
func (d Direction) String() string {
	return [...]string{ToServer: "ToServer", ToClient: "ToClient"}[d]
}

// FaultKind is what a [ByteFault] does.
type FaultKind int

// The kinds of faults. Each acts when exactly ByteFault.At bytes have passed.
const (
	FaultCut       FaultKind = iota // both directions end: reads give io.EOF, writes EPIPE
	FaultReset                      // both directions end with ECONNRESET
	FaultStall                      // a black hole: writes succeed and are lost, reads block
	FaultBlock                      // reads and writes block until their deadline or Close
	FaultSlice                      // from here on in pieces of N bytes
	FaultDuplicate                  // the next N bytes pass twice in a row
	FaultInsert                     // Data comes in between
	FaultDrop                       // the next N bytes are lost
	FaultPush                       // Data comes in between; FaultInsert by the name for whole RESP3 pushes
)

// FaultKinds are all of them, for tests that try each.
var FaultKinds = []FaultKind{
	FaultCut, FaultReset, FaultStall, FaultBlock, FaultSlice,
	FaultDuplicate, FaultInsert, FaultDrop, FaultPush,
}

// String returns the kind's name.
func (k FaultKind) String() string {
	return [...]string{
		"cut", "reset", "stall", "block", "slice", "duplicate", "insert", "drop", "push",
	}[k]
}

// ByteFault is one fault at one byte offset of a connection.
type ByteFault struct {
	Kind FaultKind
	Dir  Direction
	At   int64  // bytes that pass in Dir before it acts
	N    int    // bytes, for FaultSlice, FaultDuplicate and FaultDrop; 0 is 1
	Data []byte // for FaultInsert and FaultPush

	// ShortWrite makes the Write that a cut or reset falls into return the
	// error and the number of bytes that passed. By default it claims success
	// and only the next call fails, which is what a kernel does.
	ShortWrite bool
}

// Wrap returns c with the fault, for [WithConnWrapper].
func (f ByteFault) Wrap(c net.Conn) net.Conn { return WithFaults(c, f) }

// WithFaults returns a client's connection c that suffers all of faults. c
// may be of any type; if it has a Reset method or is a *net.TCPConn, a
// FaultReset resets it, otherwise it is closed.
func WithFaults(c net.Conn, faults ...ByteFault) net.Conn {
	fc := &faultConn{conn: c}
	fc.changed = sync.NewCond(&fc.mu)
	for _, f := range faults {
		d := &fc.dirs[f.Dir]
		d.faults = append(d.faults, f)
	}
	for i := range fc.dirs {
		slices.SortStableFunc(fc.dirs[i].faults, func(a, b ByteFault) int { return int(a.At - b.At) })
	}
	return fc
}
