package doctor

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// each looks at all addresses at once, and returns what was found in their order. Those
// whose look fails drop out. As long as others are left that is a warning, since the
// client uses those.
func (k *known) each(look func(addr string) []Finding) []Finding {
	perAddr := inOrder(k.addrs, look)
	var left []string
	var all []Finding
	for i, findings := range perAddr {
		if !anyFailed(findings) {
			left = append(left, k.addrs[i])
		}
		all = append(all, findings...)
	}
	if len(left) > 0 {
		soften(all)
	}
	k.addrs = left
	return all
}

// inOrder calls look for all at once, and returns what they have returned in order.
func inOrder[A, B any](of []A, look func(A) B) []B {
	results := make([]B, len(of))
	var looking sync.WaitGroup
	for i, a := range of {
		looking.Go(func() { results[i] = look(a) })
	}
	looking.Wait()
	return results
}

func anyFailed(findings []Finding) bool {
	for _, f := range findings {
		if f.Status == Failed {
			return true
		}
	}
	return false
}

func soften(findings []Finding) {
	for i := range findings {
		if findings[i].Status == Failed {
			findings[i].Status = Warning
		}
	}
}

// checkNames resolves the hosts.
func checkNames(ctx context.Context, k *known) []Finding {
	if k.target.network() != "tcp" {
		return nil
	}
	return k.each(func(addr string) []Finding { return []Finding{k.resolve(ctx, addr)} })
}

func (k *known) resolve(ctx context.Context, addr string) Finding {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return found(Failed, "%s is no address: %s", k.clean(addr), k.say(err)).advise("an address is host:port")
	}
	if net.ParseIP(host) != nil {
		return found(OK, "%s is an address already, no name to resolve", k.clean(host))
	}
	ctx, cancel := k.bounded(ctx)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return found(Failed, "%s can't be resolved: %s", k.clean(host), k.say(err)).
			advise("is the host's name right, and does this machine's DNS know it?")
	}
	return found(OK, "%s is %s", k.clean(host), strings.Join(ips, ", "))
}

// announcedAdvice is what to do where a node can't be reached at the address that it,
// or a sentinel, announces.
const announcedAdvice = "If it isn't one for here (NAT, containers, forwarded ports), set driver.Config.MapAddr in the program, or have the node announce another (cluster-announce-ip and -port, replica-announce-ip and -port); else the node is down or a firewall is in between"

// checkConnect opens a socket to each.
func checkConnect(ctx context.Context, k *known) []Finding {
	return k.each(func(addr string) []Finding {
		f := k.connect(ctx, addr)
		if f.Status == Failed && k.target.failover != nil {
			f = f.advise("the sentinels name this address. " + announcedAdvice)
		}
		return []Finding{f}
	})
}

func (k *known) connect(ctx context.Context, addr string) Finding {
	began := time.Now()
	nc, err := k.dial(ctx, addr)
	if err != nil {
		return k.unreachable(addr, err)
	}
	took := time.Since(began)
	defer nc.Close()
	return found(OK, "%s accepts connections, in %s", k.clean(addr), inMilliseconds(took))
}

func (k *known) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := k.bounded(ctx)
	defer cancel()
	return new(net.Dialer).DialContext(ctx, k.target.network(), addr)
}

// unreachable says what the error of a dial means.
func (k *known) unreachable(addr string, err error) Finding {
	f := found(Failed, "%s can't be reached: %s", k.clean(addr), k.say(err))
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return f.advise("nothing listens there: is the server running, is the port right, and does it listen on this interface (bind)?")
	case os.IsTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return f.advise("no answer in time: does a firewall or a security group drop it, and is the address right?")
	case errors.Is(err, os.ErrNotExist):
		return f.advise("there is no such socket: is the path right (unixsocket), and is the server running?")
	case errors.Is(err, os.ErrPermission):
		return f.advise("this user may not open the socket: see the server's unixsocketperm")
	}
	return f.advise("are the address and the network's routes right?")
}
