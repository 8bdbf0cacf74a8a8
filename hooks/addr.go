package hooks

import "github.com/everpool/everpool/internal/safeaddr"

// SafeAddr is an address as telemetry may show it: host:port, or the path of a unix
// socket. Of what somebody has made of a URL it leaves out all that could be a
// password: the scheme, the login before the host, path, query and fragment. Where
// it can't be told which of these an @ belongs to, the address is "". An address
// without these comes back as it is, with invalid UTF-8 replaced. It doesn't ask for
// the network, which not everybody knows who has an address.
func SafeAddr(addr string) string { return safeaddr.Of(addr) }
