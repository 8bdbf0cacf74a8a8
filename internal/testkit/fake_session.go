package testkit

import (
	"fmt"
	"strconv"
	"strings"
)

// fakeSession is what a connection's commands have set.
type fakeSession struct {
	SessionInfo
	multi    bool
	inExec   bool // its commands don't block, and nobody is served before its end
	aborted  bool // a command was refused since MULTI
	queued   [][]string
	watched  map[storeKey]uint64 // the version that was seen
	channels map[string]bool
	patterns map[string]bool
}

func (c *FakeConn) resetSessionLocked() {
	c.session = fakeSession{
		SessionInfo: SessionInfo{Proto: 2},
		watched:     map[storeKey]uint64{},
		channels:    map[string]bool{},
		patterns:    map[string]bool{},
	}
	if c.authOptionalLocked() {
		c.session.User = "default"
	}
}

// authOptionalLocked says whether the default user needs no password.
func (c *FakeConn) authOptionalLocked() bool { return c.f.passwords["default"] == "" }

func (c *FakeConn) cmdHello(args []string) []byte {
	proto := c.session.Proto
	user, pw, name := "", "", ""
	auth, setName := false, false
	if len(args) > 1 {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return ReplyError("ERR Protocol version is not an integer or out of range")
		}
		if n != 2 && n != 3 {
			return ReplyError("NOPROTO unsupported protocol version")
		}
		proto = n
	}
	for i := 2; i < len(args); {
		switch opt := strings.ToUpper(args[i]); {
		case opt == "AUTH" && i+2 < len(args):
			auth, user, pw = true, args[i+1], args[i+2]
			i += 3
		case opt == "SETNAME" && i+1 < len(args):
			setName, name = true, args[i+1]
			i += 2
		default:
			return ReplyError(fmt.Sprintf("ERR Syntax error in HELLO option '%s'", args[i]))
		}
	}
	if auth && !c.loginLocked(user, pw) {
		return wrongPass()
	}
	if c.session.User == "" && !c.authOptionalLocked() {
		return ReplyError("NOAUTH HELLO must be called with the client already authenticated, otherwise the " +
			"HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the " +
			"RESP protocol version at the same time")
	}
	if setName {
		c.session.Name = name
	}
	c.session.Proto = proto
	return c.hello()
}

func (c *FakeConn) hello() []byte {
	fields := [][]byte{
		ReplyBulk("server"), ReplyBulk("redis"),
		ReplyBulk("version"), ReplyBulk("7.0.15"),
		ReplyBulk("proto"), ReplyInt(int64(c.session.Proto)),
		ReplyBulk("id"), ReplyInt(c.ID),
		ReplyBulk("mode"), ReplyBulk("standalone"),
		ReplyBulk("role"), ReplyBulk("master"),
		ReplyBulk("modules"), ReplyArray(),
	}
	if c.session.Proto == 3 {
		return aggregate('%', len(fields)/2, fields)
	}
	return ReplyArray(fields...)
}

func wrongPass() []byte {
	return ReplyError("WRONGPASS invalid username-password pair or user is disabled.")
}

func (c *FakeConn) loginLocked(user, pw string) bool {
	want, known := c.f.passwords[user]
	if user == "default" && want == "" {
		known = true
	} else if want != pw {
		return false
	}
	if known {
		c.session.User = user
	}
	return known
}

func (c *FakeConn) cmdAuth(args []string) []byte {
	user, pw := "default", args[1]
	switch len(args) {
	case 2:
		if c.authOptionalLocked() {
			return ReplyError("ERR AUTH <password> called without any password configured for the default user. " +
				"Are you sure your configuration is correct?")
		}
	case 3:
		user, pw = args[1], args[2]
	default:
		return syntaxError()
	}
	if !c.loginLocked(user, pw) {
		return wrongPass()
	}
	return ReplySimple("OK")
}

func (c *FakeConn) cmdSelect(args []string) []byte {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return ReplyError("ERR value is not an integer or out of range")
	}
	if n < 0 || n > 15 {
		return ReplyError("ERR DB index is out of range")
	}
	c.session.DB = n
	return ReplySimple("OK")
}

func (c *FakeConn) cmdPing(args []string) []byte {
	text := ""
	switch {
	case len(args) > 2:
		return wrongArgs("ping")
	case len(args) == 2:
		text = args[1]
	}
	switch {
	case c.subscribedOnly():
		return ReplyArray(ReplyBulk("pong"), ReplyBulk(text))
	case len(args) == 2:
		return ReplyBulk(text)
	default:
		return ReplySimple("PONG")
	}
}

func (c *FakeConn) cmdReset([]string) []byte {
	c.resetSessionLocked()
	return ReplySimple("RESET")
}

func (c *FakeConn) cmdQuit([]string) []byte {
	c.replyLocked(ReplySimple("OK"))
	c.finishLocked()
	return nil
}

func (c *FakeConn) cmdReadOnly(args []string) []byte {
	c.session.ReadOnly = strings.EqualFold(args[0], "READONLY")
	return ReplySimple("OK")
}

func (c *FakeConn) cmdClient(args []string) []byte {
	sub := strings.ToUpper(args[1])
	rest := args[2:]
	switch {
	case sub == "ID" && len(rest) == 0:
		return ReplyInt(c.ID)
	case sub == "GETNAME" && len(rest) == 0:
		if c.session.Name == "" {
			return c.null()
		}
		return ReplyBulk(c.session.Name)
	case sub == "INFO" && len(rest) == 0:
		return ReplyBulk(c.infoLine() + "\n")
	case sub == "SETNAME" && len(rest) == 1:
		c.session.Name = rest[0]
		return ReplySimple("OK")
	case sub == "SETINFO" && len(rest) == 2 && !c.f.opts.noSetInfo:
		return c.setInfo(rest[0], rest[1])
	case sub == "KILL" && len(rest) > 0:
		return c.clientKill(rest)
	case sub == "TRACKING" && len(rest) > 0:
		c.session.Tracking = strings.EqualFold(rest[0], "ON")
		return ReplySimple("OK")
	case (sub == "NO-EVICT" || sub == "NO-TOUCH") && len(rest) == 1:
		return ReplySimple("OK")
	}
	return ReplyError(fmt.Sprintf("ERR unknown subcommand '%s'. Try CLIENT HELP.", args[1]))
}

func (c *FakeConn) infoLine() string {
	return fmt.Sprintf("id=%d addr=%s name=%s db=%d user=%s resp=%d",
		c.ID, c.conn.RemoteAddr(), c.session.Name, c.session.DB, c.session.User, c.session.Proto)
}

func (c *FakeConn) setInfo(attr, value string) []byte {
	switch strings.ToUpper(attr) {
	case "LIB-NAME":
		c.session.LibName = value
	case "LIB-VER":
		c.session.LibVer = value
	default:
		return ReplyError(fmt.Sprintf("ERR Unrecognized option '%s'", attr))
	}
	return ReplySimple("OK")
}

// clientKill answers CLIENT KILL addr and CLIENT KILL ID|ADDR value.
func (c *FakeConn) clientKill(args []string) []byte {
	kind, value := "ADDR", args[0]
	if len(args) > 1 {
		kind, value = strings.ToUpper(args[0]), args[1]
	}
	killed := int64(0)
	for _, o := range c.f.connsLocked() {
		if kind == "ID" && strconv.FormatInt(o.ID, 10) != value ||
			kind == "ADDR" && o.conn.RemoteAddr().String() != value {
			continue
		}
		killed++
		if o == c {
			defer c.finishLocked() // behind its own reply, queued here
			continue
		}
		o.endLocked(false)
	}
	reply := ReplyInt(killed)
	if len(args) == 1 {
		reply = ReplySimple("OK")
		if killed == 0 {
			reply = ReplyError("ERR No such client")
		}
	}
	c.replyLocked(reply)
	return nil
}
