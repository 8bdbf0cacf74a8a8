package doctor

import (
	"context"
	"fmt"
	"strings"
)

// need is a command that everpool, or go-redis on it, sends by itself.
type need struct {
	args     []any
	without  string // what there isn't without the permission
	harmless bool   // it may be sent to see whether it is permitted
}

func (n need) name() string {
	words := []string{fmt.Sprint(n.args[0])}
	if len(n.args) > 1 {
		switch words[0] {
		case "CLIENT", "COMMAND", "CLUSTER":
			words = append(words, fmt.Sprint(n.args[1]))
		}
	}
	return strings.Join(words, " ")
}

// needs are those of the target.
func (k *known) needs() []need {
	o := k.target.node("")
	all := []need{
		{[]any{"HELLO"}, "the protocol is RESP2", true},
		{[]any{"PING"}, "health checks get an error, which counts as an answer", true},
		{[]any{"CLIENT", "SETINFO", "LIB-NAME", "go-redis"}, "CLIENT LIST on the server doesn't show the library", true},
		{[]any{"COMMAND", "INFO", "get"}, "commands that everpool doesn't know keep a connection of their own", true},
	}
	if o.DB > 0 {
		all = append(all, need{[]any{"SELECT", fmt.Sprint(o.DB)}, "no connection can be used", true})
	}
	if o.ClientName != "" {
		all = append(all, need{[]any{"CLIENT", "SETNAME", o.ClientName}, "connections have no name on the server", true})
	}
	if k.target.cluster != nil {
		all = append(all,
			need{[]any{"CLUSTER", "SLOTS"}, "the client doesn't learn which node has which keys, and can't work", true},
			need{[]any{"READONLY"}, "replicas can't be read from (read_from_replicas)", true})
	}
	return append(all, need{[]any{"EVAL", "return 1", "0"}, "hot keys can't be written to Redis (package hotkey); all else works", false})
}

// checkPermissions finds which of the commands that are sent anyway the user may not.
func checkPermissions(ctx context.Context, k *known) []Finding {
	user, err := k.ask(ctx, "ACL", "WHOAMI").Text()
	var how func(context.Context, *known, string, need) (permission, string)
	switch {
	case err == nil && k.canDryRun(ctx, user):
		how = dryRun
	case isUnknown(err):
		return []Finding{found(OK, "this server has no ACLs: everything is permitted")}
	default:
		how = try
	}
	var permitted, unknown []string
	var all []Finding
	for _, n := range k.needs() {
		switch p, says := how(ctx, k, user, n); p {
		case isPermitted:
			permitted = append(permitted, n.name())
		case isRefused:
			all = append(all, found(Warning, "%s isn't permitted: %s", n.name(), says).advise("without it "+n.without+"; ACL SETUSER with "+n.rule()+" gives it"))
		case isAbsent:
			all = append(all, found(Note, "this server has no %s", n.name()).advise("nothing to do: it is an older one; "+n.without))
		case isNotKnown:
			unknown = append(unknown, n.name())
		}
	}
	if len(permitted) > 0 {
		all = append([]Finding{found(OK, "permitted are %s", strings.Join(permitted, ", "))}, all...)
	}
	if len(unknown) > 0 {
		all = append(all, found(Note, "whether %s is permitted isn't known: ACL DRYRUN can't be asked here", strings.Join(unknown, ", ")).
			advise("EVAL is for hot keys in Redis alone; ask as a user with +acl|whoami and +acl|dryrun, on Redis 7 or Valkey"))
	}
	return all
}

// rule is the ACL rule that permits it.
func (n need) rule() string { return "+" + strings.ToLower(strings.ReplaceAll(n.name(), " ", "|")) }

type permission int

const (
	isNotKnown permission = iota
	isPermitted
	isRefused
	isAbsent // the server has no such command
)

// canDryRun reports whether the server has ACL DRYRUN and the user may ask it.
func (k *known) canDryRun(ctx context.Context, user string) bool {
	return k.ask(ctx, "ACL", "DRYRUN", user, "HELLO").Err() == nil
}

// dryRun asks the server what it would do.
func dryRun(ctx context.Context, k *known, user string, n need) (permission, string) {
	says, err := k.ask(ctx, append([]any{"ACL", "DRYRUN", user}, n.args...)...).Text()
	switch {
	case err != nil && strings.Contains(err.Error(), "not found"):
		return isAbsent, ""
	case err != nil:
		return isNotKnown, ""
	case says == "OK":
		return isPermitted, ""
	}
	return isRefused, k.clean(says)
}

// try sends the command, if it does nothing to anybody.
func try(ctx context.Context, k *known, _ string, n need) (permission, string) {
	if !n.harmless {
		return isNotKnown, ""
	}
	switch err := k.ask(ctx, n.args...).Err(); {
	case isUnpermitted(err):
		return isRefused, k.say(err)
	case isUnknown(err):
		return isAbsent, ""
	case err != nil:
		return isNotKnown, ""
	}
	return isPermitted, ""
}
