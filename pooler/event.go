package pooler

import "time"

// State is what the pool knows of its node.
type State uint8

// The states of a node.
const (
	// StateUp: the last thing heard of the node was good, or nothing was heard
	// yet.
	StateUp State = iota
	// StateSuspect: a dial has failed; the prober is at work, or other
	// connections still answer.
	StateSuspect
	// StateDown: the prober's dials fail too and no connection has answered
	// since the first failure.
	StateDown
)

// String returns "up", "suspect" or "down".
func (s State) String() string {
	switch s {
	case StateUp:
		return "up"
	case StateSuspect:
		return "suspect"
	default:
		return "down"
	}
}

// CloseReason says why a connection was closed.
type CloseReason string

// The reasons for closing a connection, as they appear in [Stats] and events.
const (
	ClosePoolClosed  CloseReason = "pool_closed"  // the pool was closed
	CloseIdle        CloseReason = "idle"         // idle for ConnMaxIdleTime
	CloseMaxIdle     CloseReason = "max_idle"     // more than MaxIdleConns
	CloseLifetime    CloseReason = "lifetime"     // older than ConnMaxLifetime
	CloseRoom        CloseReason = "room"         // made room for another session, or another node of the Budget; or MaxOpenConns was lowered
	CloseDrained     CloseReason = "drained"      // the pool had no users left
	ClosePeer        CloseReason = "peer_closed"  // the peer closed it
	CloseRead        CloseReason = "read_error"   // a read failed
	CloseWrite       CloseReason = "write_error"  // a write failed, or was cut short
	CloseProtocol    CloseReason = "protocol"     // the peer sent what is not RESP
	CloseUnasked     CloseReason = "unasked"      // a reply that nobody asked for
	CloseAbandoned   CloseReason = "abandoned"    // its user left and the rest of the replies could not be awaited
	CloseState       CloseReason = "state"        // its user left state on it (subscribed, watching, ...)
	CloseHealth      CloseReason = "health_check" // a PING was not answered
	CloseSessionLost CloseReason = "session_lost" // the server refused the session
	CloseSilence     CloseReason = "silence"      // it was silent while the server answered on another
	CloseRetired     CloseReason = "retired"      // the server said that it can't serve any more, and another one may
)

// EventKind says what an [Event] is about.
type EventKind uint8

// The kinds of events.
const (
	EventState  EventKind = iota // the node's state changed: State, Previous, Err
	EventDial                    // a dial ended: Duration, Err
	EventClose                   // a connection was closed: Conn, Reason, Err
	EventPin                     // a lease lasts beyond its request: Conn, Pin
	EventRetire                  // all connections so far are retired, for what the server said: Err
	EventSilent                  // replies are owed and nothing comes; a connection is opened to ask
)

// String returns "state", "dial", "close", "pin", "retire" or "silent".
func (k EventKind) String() string {
	return [...]string{"state", "dial", "close", "pin", "retire", "silent"}[k]
}

// Event is something that happened to a node or to one of its connections.
// Fields that the kind does not name are zero.
type Event struct {
	Kind     EventKind
	Node     string // address
	Time     time.Time
	Conn     uint64 // the connection's number
	State    State
	Previous State
	Reason   CloseReason
	Pin      string
	Duration time.Duration // of a dial; of the outage, when the node is up again
	Err      error
}
