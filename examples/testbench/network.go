package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/everpool/everpool/internal/testkit"
)

// network is what is between a driver and the servers: a proxy before each server. Each
// driver has a network of its own, and each fault befalls all of them at once.
type network struct {
	proxies map[string]*testkit.Proxy // by the server's address
	dials   atomic.Int64
}

// newNetwork starts the proxies for the servers.
func newNetwork(servers []string) (*network, error) {
	n := &network{proxies: make(map[string]*testkit.Proxy)}
	for _, addr := range servers {
		p, err := testkit.StartProxy(addr)
		if err != nil {
			n.close()
			return nil, fmt.Errorf("starting a proxy for %s: %w", addr, err)
		}
		n.proxies[addr] = p
	}
	return n, nil
}

// dial opens a connection to a server, through its proxy.
func (n *network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.dials.Add(1)
	p := n.proxies[addr]
	if p == nil {
		return nil, fmt.Errorf("no server is at %s", addr)
	}
	return new(net.Dialer).DialContext(ctx, network, p.Addr())
}

func (n *network) each(do func(*testkit.Proxy)) {
	for _, p := range n.proxies {
		do(p)
	}
}

func (n *network) reset()                { n.each((*testkit.Proxy).Reset) }
func (n *network) silence()              { n.each(func(p *testkit.Proxy) { p.Silence(true) }) }
func (n *network) freeze(on bool)        { n.each(func(p *testkit.Proxy) { p.Freeze(on) }) }
func (n *network) delay(d time.Duration) { n.each(func(p *testkit.Proxy) { p.Delay(d) }) }

// refuse has dials to a server refused, as they are where nothing listens.
func (n *network) refuse(addr string, on bool) { n.proxies[addr].Refuse(on) }

func (n *network) close() { n.each((*testkit.Proxy).Close) }
