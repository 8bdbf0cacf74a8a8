// Package safeaddr makes addresses fit to be shown.
package safeaddr

import "strings"

// Of is an address as telemetry may show it: host:port, or the path of a unix
// socket. Of what somebody has made of a URL it leaves out all that could be a
// password: scheme and what is before the last @, path and query. An address
// without these comes back as it is, with invalid UTF-8 replaced. It doesn't ask for
// the network, which not everybody knows who has an address.
func Of(addr string) string {
	addr = strings.ToValidUTF8(addr, "\uFFFD")
	isURL := strings.Contains(addr, "://")
	if !isURL && isPath(addr) {
		return addr
	}
	if i := strings.LastIndexByte(addr, '@'); i >= 0 {
		addr = addr[i+1:]
	}
	if _, rest, ok := strings.Cut(addr, "://"); ok {
		addr = rest
	}
	if i := strings.IndexAny(addr, "/?#"); i >= 0 {
		addr = addr[:i]
	}
	return addr
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
