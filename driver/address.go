package driver

import (
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/everpool/everpool/internal/safeaddr"
	"github.com/everpool/everpool/internal/topology"
)

// checkAddr returns what is wrong with the address of a node, whatever its history.
// A dialer of the user's own takes what it likes, but for passwords: an address is
// logged, and is in errors and statistics. custom says that it has one.
func checkAddr(network, addr string, custom bool) error {
	shown := safeaddr.Of(addr)
	isURL := strings.Contains(addr, "://")
	path := network == "unix" || network == "" && strings.HasPrefix(addr, "/")
	login, _, hasLogin := strings.Cut(addr, "@")
	hasLogin = hasLogin && (isURL || !path) && (!custom || strings.Contains(login, ":"))
	switch {
	case hasLogin, isURL && !custom:
		return complaint("Addr is a URL, or has a login in it, of %q; allowed is an address: redis.ParseURL and Open take URLs, Username and Password the login", shown)
	case custom, path, addr == "":
		return nil
	case shown != addr:
		return complaint("Addr is %q with more around it; allowed is host:port alone", shown)
	case strings.ContainsAny(addr, ",;"):
		return complaint("Addr is %q; allowed is the host:port of one node, and no list", shown)
	case strings.ContainsAny(addr, " \t\r\n"):
		return complaint("Addr is %q; allowed is host:port, without spaces", shown)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil && !strings.Contains(addr, ":") {
		return complaint("Addr is %q, without a port; allowed is host:port, as %s", shown, net.JoinHostPort(shown, "6379"))
	}
	if err != nil {
		return complaint("Addr is %q; allowed is host:port, an IPv6 address in brackets, as [::1]:6379", shown)
	}
	if n, err := strconv.Atoi(port); err != nil && port != "" {
		_, err = net.LookupPort("tcp", port) // a service's name
		if err != nil {
			return complaint("Addr is %q, whose port %q isn't known; allowed are 1 to 65535", shown, port)
		}
	} else if n < 1 || n > 65535 {
		return complaint("Addr is %q, whose port is %q; allowed are 1 to 65535", shown, port)
	}
	return nil
}

// checkDialed returns what is wrong with an address that go-redis dials, which may be
// another than in the options. One that a cluster or its sentinels have announced, as
// ":0" for a node that they know no address of, is no mistake of the program's and may be
// another one soon: that is the error of a dial, after which go-redis tries again. So is
// a seed or a sentinel that is wrong among others.
func (b *binding) checkDialed(network, addr string) error {
	err := checkAddr(network, addr, b.custom())
	_, port, _ := net.SplitHostPort(addr)
	others := b.topology() != nil
	switch b.Places.(type) {
	case topology.Hasty, topology.AtSentinels:
		others = true
	}
	if !others || err == nil && port != "0" {
		return err
	}
	return newDialError(network, safeaddr.Of(addr), errNoAddress)
}

var errNoAddress = errors.New("everpool: this is no address that can be dialed")
