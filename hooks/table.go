package hooks

import (
	"strings"

	"github.com/everpool/everpool/internal/command"
)

// commands is made once, from the command table.
var commands = func() (t struct {
	all   []*Command
	of    map[*command.Info]*Command
	other *Command
},
) {
	t.of = make(map[*command.Info]*Command)
	add := func(name string, info *command.Info) *Command {
		c := &Command{
			Name: name, Lower: strings.ToLower(name), Pipeline: "PIPELINE " + name, Transaction: "MULTI " + name,
			Index: len(t.all), info: info,
		}
		t.all = append(t.all, c)
		return c
	}
	for info := range command.All() {
		c := add(info.Name, info)
		c.Access, c.mayBlock = accessOf(info), info.Blocking
		c.handshake = info.Class == command.Session || info.Pin == command.PinMaint || info.Name == "CLIENT TRACKING"
		switch info.Name {
		case "CLUSTER SLOTS", "CLUSTER SHARDS", "COMMAND", "PING":
			c.internal = true
		}
		t.of[info] = c
	}
	t.other = add(Other, nil)
	return t
}()

// accessOf is what the flags say; scripts and functions have none that do, but
// keys.
func accessOf(i *command.Info) Access {
	switch {
	case i.Tx != command.TxNone:
		return AccessNone // WATCH has keys
	case i.Flags.Has(command.FlagWrite):
		return AccessWrite
	case i.Flags.Has(command.FlagReadOnly):
		return AccessRead
	}
	access := AccessNone
	for k := range i.Keys {
		access = max(access, Access(i.Keys[k].Access()))
	}
	return access
}

func (c *Command) isMulti() bool { return c.info != nil && c.info.Tx == command.TxMulti }
func (c *Command) isExec() bool  { return c.info != nil && c.info.Tx == command.TxExec }
