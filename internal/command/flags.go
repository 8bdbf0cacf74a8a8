package command

// Flags is the set of a command's flags as COMMAND tells them.
type Flags uint32

// The flags, in the order of their names.
const (
	FlagAdmin Flags = 1 << iota
	FlagAllowBusy
	FlagAsking
	FlagBlocking
	FlagDenyOOM
	FlagFast
	FlagLoading
	FlagModule
	FlagMovableKeys
	FlagNoAsyncLoading
	FlagNoAuth
	FlagNoMandatoryKeys
	FlagNoMulti
	FlagNoScript
	FlagPubSub
	FlagReadOnly
	FlagSkipMonitor
	FlagSkipSlowlog
	FlagStale
	FlagWrite
)

var flagNames = [...]string{
	"admin", "allow_busy", "asking", "blocking", "denyoom", "fast", "loading",
	"module", "movablekeys", "no_async_loading", "no_auth", "no_mandatory_keys",
	"no_multi", "noscript", "pubsub", "readonly", "skip_monitor", "skip_slowlog",
	"stale", "write",
}

// Has reports whether all flags of g are in f.
func (f Flags) Has(g Flags) bool { return f&g == g }
