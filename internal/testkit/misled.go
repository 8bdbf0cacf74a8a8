package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// The nodes of [MisledCluster].
const (
	MisledNode = "a:1" // which has all slots, as they say
	RightNode  = "b:2" // which has what is asked for
)

// MisledCluster returns the client of a cluster of two nodes in memory, one of which sends
// every GET to the other by a redirection of that kind: MOVED or ASK.
func MisledCluster(tb testing.TB, kind string) *redis.ClusterClient {
	tb.Helper()
	nodes := map[string]*Fake{MisledNode: NewFake(), RightNode: NewFake()}
	for _, n := range nodes {
		tb.Cleanup(n.Close)
		n.Handle("COMMAND", answer("*2\r\n"+describe("get")+describe("set")))
		n.Handle("ASKING", answer("+OK\r\n"))
		n.Handle("CLUSTER SLOTS", answer("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\na\r\n:1\r\n"))
	}
	nodes[MisledNode].Handle("GET", answer("-"+kind+" 1 "+RightNode+"\r\n"))
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{MisledNode},
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if n := nodes[addr]; n != nil {
				return n.Dial(ctx, network, addr)
			}
			return nil, errors.New("testkit: there is no node " + addr)
		},
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// describe is what COMMAND says of one with a key, so that go-redis doesn't log that it is unknown.
func describe(command string) string {
	return fmt.Sprintf("*6\r\n$%d\r\n%s\r\n:2\r\n*0\r\n:1\r\n:1\r\n:1\r\n", len(command), command)
}

func answer(reply string) func(*FakeConn, []string) []byte {
	return func(*FakeConn, []string) []byte { return []byte(reply) }
}
