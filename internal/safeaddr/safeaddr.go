// Package safeaddr makes addresses fit to be shown.
package safeaddr

import (
	"net"
	"strconv"
	"strings"
)

// Of is an address as telemetry may show it: host:port, or the path of a unix
// socket. Of what somebody has made of a URL it leaves out all that could be a
// password: the scheme, the login before the host, path, query, fragment and options. Where
// an @ may as well end a login as be in what follows the host, and both readings
// have a host and a port, it is "". An address without these comes back as it is, with
// invalid UTF-8 replaced. It doesn't ask for the network, which not everybody knows
// who has an address.
func Of(addr string) string {
	addr = strings.ToValidUTF8(addr, "\uFFFD")
	_, rest, isURL := strings.Cut(addr, "://")
	if !isURL {
		if isPath(addr) {
			return addr
		}
		rest = addr
	}
	host := hostOf(rest)
	if _, port, err := net.SplitHostPort(host); isURL && err == nil && !isNumber(port) || strings.Contains(host, "=") {
		return "" // user:password, cut off, or an option
	}
	return host
}

// MaybeURL reports whether a name may be a URL, or the rest of one with its login: then it
// may hold a password, and is no name to be shown.
func MaybeURL(name string) bool { return strings.Contains(name, "://") || strings.Contains(name, "@") }

// hostOf takes a login away, and what follows the host. A password may have
// unescaped delimiters in it, so that there are two readings of an @ behind one.
func hostOf(addr string) string {
	head := upToDelimiter(addr)
	login, last := strings.LastIndexByte(head, '@'), strings.LastIndexByte(addr, '@')
	near := head[login+1:] // the delimiter ends the host, and the @ is behind
	if login == last {
		return near
	}
	far := upToDelimiter(addr[last+1:]) // the delimiter is in the password
	switch nearIs, farIs := isHostPort(near), isHostPort(far); {
	case nearIs && !farIs:
		return near
	case farIs && !nearIs && strings.Count(addr, "@") == 1:
		return far
	}
	return ""
}

// upToDelimiter is what is before a path, a query or a fragment, and before options, as in
// host:port,password=secret.
func upToDelimiter(s string) string {
	delimiters := "/?#"
	if strings.Contains(s, "=") {
		delimiters += ",;& \t\r\n"
	}
	if i := strings.IndexAny(s, delimiters); i >= 0 {
		return s[:i]
	}
	return s
}

// isHostPort reports whether s is a host and a number.
func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && host != "" && isNumber(port)
}

func isNumber(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// isPath reports whether the address is that of a unix socket, an abstract one
// among them: @name has no port.
func isPath(addr string) bool {
	switch {
	case addr == "":
		return false
	case addr[0] == '/', strings.HasPrefix(addr, "./"), strings.HasPrefix(addr, "../"):
		return true
	}
	return addr[0] == '@' && !strings.ContainsAny(addr[1:], ":@")
}
