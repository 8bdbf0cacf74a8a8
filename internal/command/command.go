package command

import "iter"

// Class says what kind of connection a request needs.
type Class uint8

// The classes. Their order means nothing.
const (
	// Shareable may ride a connection together with others' requests.
	Shareable Class = iota
	// Session sets state of the connection that can be replayed on another:
	// HELLO, AUTH, SELECT, READONLY, CLIENT SETNAME and kin. Facts.Slots says
	// which.
	Session
	// Exclusive needs a connection of its own for as long as the request runs:
	// it blocks, administrates, or must not queue behind what it should stop.
	Exclusive
	// Pinning leaves state on its connection that can't be replayed. Facts.Pin
	// says which.
	Pinning
	// Local is answered by the handle and never sent: QUIT.
	Local
)

// Pin is the reason why a handle must keep its connection.
type Pin uint8

// The reasons. All but PinMulti and PinWatch hold for the handle's life.
const (
	PinNone        Pin = iota
	PinMulti           // MULTI, until EXEC or DISCARD is answered
	PinWatch           // WATCH, until EXEC, DISCARD or UNWATCH is answered
	PinPubSub          // the SUBSCRIBE family
	PinMonitor         // MONITOR
	PinTracking        // CLIENT TRACKING, CACHING
	PinMaint           // CLIENT MAINT_NOTIFICATIONS, when accepted
	PinReply           // CLIENT REPLY OFF or SKIP: it changes the number of replies
	PinClientID        // CLIENT ID, CLIENT INFO: who asked keeps that connection
	PinScriptDebug     // SCRIPT DEBUG
	PinSync            // SYNC, PSYNC, REPLCONF: the connection becomes a replica's
	PinHImport         // HIMPORT: field sets live on the connection
	PinReset           // RESET: ends the session state, so the connection ends too
	PinUnknown         // not in the table: nobody knows what it leaves behind
	PinSession         // session state that can't be recorded
)

// Effect says what running a request once more would do.
type Effect uint8

// The effects, from harmless to harmful.
const (
	// Read changes no data: it may be sent again unnoticed.
	Read Effect = iota
	// Idempotent leaves the same data when run twice as when run once. Of its reply
	// only the number of changes may differ (SADD, DEL): what tells the value that
	// was there before (SETBIT, SET with GET) is Unsafe.
	Idempotent
	// Unsafe is everything else, and everything not provably better.
	Unsafe
)

// Tx is a command's part in a transaction.
type Tx uint8

// The parts. TxNone also holds for whatever is queued inside.
const (
	TxNone Tx = iota
	TxMulti
	TxExec
	TxDiscard
	TxWatch
	TxUnwatch
)

// Slots is the set of the parts of a session that a Session command sets. The
// last command of a session that sets a slot is the one that counts.
type Slots uint16

// The parts of a session.
const (
	SlotProto    Slots = 1 << iota // HELLO with a version
	SlotAuth                       // AUTH, HELLO .. AUTH
	SlotName                       // CLIENT SETNAME, HELLO .. SETNAME
	SlotDB                         // SELECT
	SlotReadOnly                   // READONLY and READWRITE
	SlotLibName                    // CLIENT SETINFO LIB-NAME
	SlotLibVer                     // CLIENT SETINFO LIB-VER
	SlotNoEvict                    // CLIENT NO-EVICT
	SlotNoTouch                    // CLIENT NO-TOUCH
)

// Info is what the table knows of a command, whatever its arguments. It is
// shared and must not be changed.
type Info struct {
	// Name in upper case, with the subcommand: "GET", "CLIENT SETNAME".
	Name string
	// Class, Pin, Effect, Slots and Blocking are the safe side of what Inspect
	// finds from the arguments.
	Class  Class
	Pin    Pin
	Effect Effect
	Slots  Slots
	// Tx is its part in a transaction.
	Tx Tx
	// Blocking commands may hold their reply back for as long as their
	// arguments say.
	Blocking bool
	// AfterWrite commands (WAIT, WAITAOF) speak about the writes of the
	// connection they run on.
	AfterWrite bool
	// Asking is a flag for the next command alone, which must follow at once.
	Asking bool
	// Container commands are named by their second argument as well. Only
	// COMMAND may also stand alone.
	Container bool
	// Module commands belong to a module that the servers asked don't have.
	Module bool
	// Redis and Valkey say which of the servers asked know the command. Neither
	// does if it comes from the list by hand.
	Redis, Valkey bool
	// Arity as COMMAND tells it: the number of arguments with the name, negative
	// for "at least". 0 if not known.
	Arity int8
	// Flags of COMMAND, the newer server's.
	Flags Flags
	// Keys says where the keys are; AppendKeys reads it.
	Keys []KeySpec

	rule  rule
	fixed bool // neither a rule nor a second argument has a say
}

// All gives every command of the table, containers included, in the order of
// their names.
func All() iter.Seq[*Info] {
	return func(yield func(*Info) bool) {
		for i := range table {
			if !yield(&table[i]) {
				return
			}
		}
	}
}
