package testkit

import (
	"fmt"
	"slices"
	"strings"
)

// fakeCommand is one command of the fake. run is called under the fake's lock
// with a checked number of arguments; it may wait only on c.work. A nil reply
// means that it has answered itself.
type fakeCommand struct {
	arity    int // as COMMAND INFO: the name included, negative for "at least"
	flags    string
	firstKey int // position of the first key, 0: none
	lastKey  int // negative: counted from the end
	run      func(c *FakeConn, args []string) []byte
}

// fakeCommands returns the table. A function and not a variable, because some
// commands look into the table.
func fakeCommands() map[string]fakeCommand {
	return map[string]fakeCommand{
		"HELLO":        {-1, "noscript loading stale fast no_auth", 0, 0, (*FakeConn).cmdHello},
		"AUTH":         {-2, "noscript loading stale fast no_auth", 0, 0, (*FakeConn).cmdAuth},
		"SELECT":       {2, "loading stale fast", 0, 0, (*FakeConn).cmdSelect},
		"PING":         {-1, "fast", 0, 0, (*FakeConn).cmdPing},
		"ECHO":         {2, "fast", 0, 0, func(_ *FakeConn, a []string) []byte { return ReplyBulk(a[1]) }},
		"CLIENT":       {-2, "", 0, 0, (*FakeConn).cmdClient},
		"RESET":        {1, "noscript loading stale fast no_auth", 0, 0, (*FakeConn).cmdReset},
		"QUIT":         {-1, "noscript loading stale fast no_auth", 0, 0, (*FakeConn).cmdQuit},
		"READONLY":     {1, "loading stale fast", 0, 0, (*FakeConn).cmdReadOnly},
		"READWRITE":    {1, "loading stale fast", 0, 0, (*FakeConn).cmdReadOnly},
		"ASKING":       {1, "fast", 0, 0, func(*FakeConn, []string) []byte { return ReplySimple("OK") }},
		"WAIT":         {3, "noscript", 0, 0, func(*FakeConn, []string) []byte { return ReplyInt(0) }},
		"COMMAND":      {-1, "loading stale", 0, 0, (*FakeConn).cmdCommand},
		"MULTI":        {1, "noscript loading stale fast", 0, 0, (*FakeConn).cmdMulti},
		"EXEC":         {1, "noscript loading stale skip_slowlog", 0, 0, nil}, // execLocked
		"DISCARD":      {1, "noscript loading stale fast", 0, 0, (*FakeConn).cmdDiscard},
		"WATCH":        {-2, "noscript loading stale fast", 1, -1, (*FakeConn).cmdWatch},
		"UNWATCH":      {1, "noscript loading stale fast", 0, 0, (*FakeConn).cmdUnwatch},
		"SUBSCRIBE":    {-2, "pubsub noscript loading stale", 0, 0, (*FakeConn).cmdSubscribe},
		"UNSUBSCRIBE":  {-1, "pubsub noscript loading stale", 0, 0, (*FakeConn).cmdUnsubscribe},
		"PSUBSCRIBE":   {-2, "pubsub noscript loading stale", 0, 0, (*FakeConn).cmdSubscribe},
		"PUNSUBSCRIBE": {-1, "pubsub noscript loading stale", 0, 0, (*FakeConn).cmdUnsubscribe},
		"PUBLISH":      {3, "pubsub loading stale fast", 0, 0, (*FakeConn).cmdPublish},
		"GET":          {2, "readonly fast", 1, 1, (*FakeConn).cmdGet},
		"SET":          {-3, "write denyoom", 1, 1, (*FakeConn).cmdSet},
		"MGET":         {-2, "readonly fast", 1, -1, (*FakeConn).cmdMGet},
		"APPEND":       {3, "write denyoom fast", 1, 1, (*FakeConn).cmdAppend},
		"INCR":         {2, "write denyoom fast", 1, 1, (*FakeConn).cmdIncr},
		"INCRBY":       {3, "write denyoom fast", 1, 1, (*FakeConn).cmdIncr},
		"DECR":         {2, "write denyoom fast", 1, 1, (*FakeConn).cmdIncr},
		"DEL":          {-2, "write", 1, -1, (*FakeConn).cmdDel},
		"EXISTS":       {-2, "readonly fast", 1, -1, (*FakeConn).cmdExists},
		"PTTL":         {2, "readonly fast", 1, 1, (*FakeConn).cmdPTTL},
		"DBSIZE":       {1, "readonly fast", 0, 0, (*FakeConn).cmdDBSize},
		"FLUSHALL":     {-1, "write", 0, 0, (*FakeConn).cmdFlushAll},
		"LPUSH":        {-3, "write denyoom fast", 1, 1, (*FakeConn).cmdPush},
		"RPUSH":        {-3, "write denyoom fast", 1, 1, (*FakeConn).cmdPush},
		"LPOP":         {2, "write fast", 1, 1, (*FakeConn).cmdPop},
		"RPOP":         {2, "write fast", 1, 1, (*FakeConn).cmdPop},
		"LLEN":         {2, "readonly fast", 1, 1, (*FakeConn).cmdLLen},
		"LRANGE":       {4, "readonly", 1, 1, (*FakeConn).cmdLRange},
		"BLPOP":        {-3, "write noscript blocking", 1, -2, (*FakeConn).cmdBlockingPop},
		"BRPOP":        {-3, "write noscript blocking", 1, -2, (*FakeConn).cmdBlockingPop},
	}
}

// execute runs one command and queues its reply.
func (c *FakeConn) execute(args []string) {
	f := c.f
	f.mu.Lock()
	reply, handler := c.dispatchLocked(args)
	if handler != nil {
		f.mu.Unlock()
		reply = handler(c, args)
		f.mu.Lock()
	}
	c.replyLocked(reply)
	f.mu.Unlock()
}

// dispatchLocked answers a command, or returns the handler that is to answer
// it without the lock.
func (c *FakeConn) dispatchLocked(args []string) ([]byte, Handler) {
	name := strings.ToUpper(args[0])
	cmd, refusal := c.lookUpLocked(name, args)
	switch {
	case refusal != nil:
		if c.session.multi {
			c.session.aborted = true
		}
		c.logLocked(args)
		return refusal, nil
	case name == "EXEC":
		c.logLocked(args)
		return c.execLocked(args)
	case c.session.multi && !slices.Contains(immediate, name):
		c.session.queued = append(c.session.queued, args)
		return ReplySimple("QUEUED"), nil
	}
	c.logLocked(args)
	if h := c.handlerLocked(args); h != nil {
		return nil, h
	}
	return cmd.run(c, args), nil
}

// immediate are the commands that a transaction doesn't queue.
var immediate = []string{"MULTI", "DISCARD", "WATCH", "QUIT", "RESET"}

// lookUpLocked returns the command, or the error that refuses it.
func (c *FakeConn) lookUpLocked(name string, args []string) (fakeCommand, []byte) {
	handled := c.handlerLocked(args) != nil
	cmd, known := c.f.commandLocked(name)
	switch {
	case !known && !handled:
		return cmd, unknownCommand(args)
	case known && !handled && (cmd.arity > 0 && len(args) != cmd.arity || len(args) < -cmd.arity):
		return cmd, wrongArgs(name)
	case c.session.User == "" && !strings.Contains(cmd.flags, "no_auth") && !c.authOptionalLocked():
		return cmd, ReplyError("NOAUTH Authentication required.")
	case c.subscribedOnly() && !slices.Contains(whileSubscribed, name):
		return cmd, ReplyError(fmt.Sprintf("ERR Can't execute '%s': only (P|S)SUBSCRIBE / "+
			"(P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context", strings.ToLower(name)))
	}
	return cmd, nil
}

var whileSubscribed = []string{"SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "PING", "QUIT", "RESET"}

// subscribedOnly says whether the connection is in RESP2's subscribed mode.
func (c *FakeConn) subscribedOnly() bool {
	return c.session.Proto == 2 && len(c.session.channels)+len(c.session.patterns) > 0
}

func (f *Fake) commandLocked(name string) (fakeCommand, bool) {
	if name == "HELLO" && f.opts.noHello {
		return fakeCommand{}, false
	}
	cmd, ok := f.store.commands[name]
	return cmd, ok
}

// handlerLocked returns the handler of a subcommand, or else of the command.
func (c *FakeConn) handlerLocked(args []string) Handler {
	name := strings.ToUpper(args[0])
	if len(args) > 1 {
		if h := c.f.handlers[name+" "+strings.ToUpper(args[1])]; h != nil {
			return h
		}
	}
	return c.f.handlers[name]
}

func (c *FakeConn) logLocked(args []string) {
	c.f.log = append(c.f.log, LogEntry{c.ID, args})
}

func unknownCommand(args []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "ERR unknown command '%.128s', with args beginning with: ", args[0])
	for _, a := range args[1:min(len(args), 20)] {
		fmt.Fprintf(&b, "'%.128s' ", a)
	}
	return ReplyError(strings.NewReplacer("\r", " ", "\n", " ").Replace(b.String()))
}

func wrongArgs(name string) []byte {
	return ReplyError(fmt.Sprintf("ERR wrong number of arguments for '%s' command", strings.ToLower(name)))
}

func syntaxError() []byte { return ReplyError("ERR syntax error") }

// cmdCommand answers COMMAND, COMMAND COUNT and COMMAND INFO.
func (c *FakeConn) cmdCommand(args []string) []byte {
	var names []string
	for name := range c.f.store.commands {
		if _, ok := c.f.commandLocked(name); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(args) > 1 {
		switch strings.ToUpper(args[1]) {
		case "COUNT":
			return ReplyInt(int64(len(names)))
		case "INFO":
			if len(args) > 2 {
				names = args[2:]
			}
		default:
			return ReplyError(fmt.Sprintf("ERR unknown subcommand '%s'. Try COMMAND HELP.", args[1]))
		}
	}
	var infos [][]byte
	for _, name := range names {
		infos = append(infos, c.commandInfo(name))
	}
	return ReplyArray(infos...)
}

func (c *FakeConn) commandInfo(name string) []byte {
	cmd, ok := c.f.commandLocked(strings.ToUpper(name))
	if !ok {
		return c.nullArray()
	}
	var flags [][]byte
	for f := range strings.FieldsSeq(cmd.flags) {
		flags = append(flags, ReplySimple(f))
	}
	step := int64(0)
	if cmd.firstKey > 0 {
		step = 1
	}
	return ReplyArray(
		ReplyBulk(strings.ToLower(name)),
		ReplyInt(int64(cmd.arity)),
		ReplyArray(flags...),
		ReplyInt(int64(cmd.firstKey)),
		ReplyInt(int64(cmd.lastKey)),
		ReplyInt(step),
		ReplyArray(), // ACL categories
		ReplyArray(), // tips
		ReplyArray(), // key specifications
		ReplyArray(), // subcommands
	)
}
