package doctor

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// checkLogin logs in, as go-redis does: HELLO or AUTH, SELECT, CLIENT SETNAME. What is
// asked then is permitted to everybody, but for early versions of Redis 6.
func checkLogin(ctx context.Context, k *known) []Finding {
	o := k.target.node(k.addrs[0])
	k.node = newNode(o, k.timeout)
	err := k.ask(ctx, "HELLO").Err()
	if err != nil && isUnknown(err) { // Redis 5 and older
		err = k.ask(ctx, "PING").Err()
	}
	if err != nil && !(isUnpermitted(err) && strings.Contains(err.Error(), "'hello'")) {
		return []Finding{k.refused(ctx, k.node.addr, o, err)}
	}
	if o.Password == "" {
		return []Finding{found(OK, "%s lets us in as the user default, without a password", k.clean(k.node.addr))}
	}
	// Not that it is the right one: a user without a password gets in with any.
	return []Finding{found(OK, "%s lets us in as the user %s, with the password", k.clean(k.node.addr), k.clean(cmp.Or(o.Username, "default")))}
}

// isUnknown reports whether the server doesn't know the command, or a subcommand.
func isUnknown(err error) bool {
	return err != nil && strings.HasPrefix(strings.ToLower(err.Error()), "err unknown")
}

// refused says what it means that the server doesn't let us in.
func (k *known) refused(ctx context.Context, addr string, o *redis.Options, err error) Finding {
	f := found(Failed, "%s doesn't let us in: %s", k.clean(addr), k.say(err))
	if !isReply(err) {
		return k.lost(ctx, f, o)
	}
	if advice := adviceAt(err.Error()); advice != "" {
		return f.advise(advice)
	}
	return f.advise("see the server's log; ACL LOG has refused logins")
}

func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// refusals are what servers answer to a login, and what to do then.
var refusals = []struct{ says, advice string }{
	{"WRONGPASS", "the user or the password is wrong, or the user is disabled: see ACL GETUSER on the server, and percent-encode what is special in the URL's password"},
	{"invalid password", "the password is wrong: see requirepass on the server, and percent-encode what is special in the URL's password"},
	{"NOAUTH", "the server wants a password: redis://user:password@host; of a sentinel's nodes it is the parameter password"},
	{"without any password configured", "the server has no password: leave it out of the URL, or set requirepass"},
	{"no password is set", "the server has no password: leave it out of the URL, or set requirepass"},
	{"DENIED", "the server is in protected mode: give it a password, or bind it to the right interface"},
	{"max number of clients", "the server has as many clients as maxclients allows: raise it, or have its clients open fewer connections"},
	{"DB index", "there is no such database: see the server's databases; a cluster has 0 alone"},
	{"NOPERM", "the user may log in, and not do what the login needs: give it that with ACL SETUSER (+select, +client|setname), or leave the database or client_name out of the URL"},
	{"SELECT is not allowed in cluster mode", "this is a node of a cluster: leave the database out of the URL, and add ?cluster=true"},
}

// adviceAt is what to do about what a server has answered, if that is known.
func adviceAt(reply string) string {
	for _, known := range refusals {
		if strings.Contains(reply, known.says) {
			return known.advice
		}
	}
	return ""
}

// lost completes the finding of a login that had no answer. A server that hangs up at
// once has said why, which is lost when the first write finds the connection gone.
func (k *known) lost(ctx context.Context, f Finding, o *redis.Options) Finding {
	if o.TLSConfig != nil {
		return f.advise("if it wants a client's certificate (tls-auth-clients): a URL can't have one, TLSConfig.Certificates can")
	}
	word := k.wordOf(ctx, o.Addr)
	if advice := adviceAt(word); advice != "" {
		f.Text += "; it says " + k.clean(word)
		return f.advise(advice)
	}
	if word == "" && o.Network != "unix" && k.speaksTLS(ctx, o.Addr) {
		return f.advise("this is a TLS port: write rediss:// in place of redis://")
	}
	return f.advise("it accepts connections and doesn't answer as Redis does: is it Redis at all, is it frozen, or has a proxy nothing behind it?")
}

// pings is how many round trips are timed.
const pings = 20

// slowPing is from when on a round trip is a warning: in one data centre it takes less
// than a millisecond.
const slowPing = 100 * time.Millisecond

// checkPing times round trips.
func checkPing(ctx context.Context, k *known) []Finding {
	times := make([]time.Duration, pings)
	for i := range times {
		began := time.Now()
		if err := k.ask(ctx, "PING").Err(); err != nil {
			return []Finding{k.noPong(err)}
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	median, longest := times[pings/2], times[pings-1]
	f := found(OK, "%d round trips, median %s, longest %s", pings, inMilliseconds(median), inMilliseconds(longest))
	if longest >= slowPing {
		f.Status = Warning
		f = f.advise("is the server far away, or busy? See SLOWLOG GET and LATENCY DOCTOR on it; timeouts must be well above this")
	}
	return []Finding{f}
}

func (k *known) noPong(err error) Finding {
	if isUnpermitted(err) {
		return found(Note, "round trips can't be timed: %s", k.say(err)).advise("for more, run this as a user with +ping")
	}
	f := found(Failed, "a PING isn't answered: %s", k.say(err))
	switch {
	case strings.HasPrefix(err.Error(), "LOADING"):
		return f.advise("the server reads its data: wait until it has started")
	case strings.HasPrefix(err.Error(), "MASTERDOWN"):
		return f.advise("this is a replica without its master: see INFO replication on it")
	}
	return f.advise("see the server's log")
}
