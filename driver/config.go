package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/everpool/everpool/internal/handle"
	"github.com/everpool/everpool/pooler"
)

// Retry says which requests may be sent again after their connection was lost
// before the reply came.
type Retry uint8

const (
	// RetrySafe lets go-redis try again whatever leaves the same data when run
	// twice as when run once: reads, SET, DEL, EXPIRE, HSET, SADD and so on.
	// Anything else ends with [pooler.ErrUnknownOutcome]. It is the default.
	RetrySafe = Retry(handle.RetrySafe)
	// RetryAll lets go-redis try everything again, as it does on its own pool:
	// an INCR may count twice.
	RetryAll = Retry(handle.RetryAll)
	// RetryNone lets it try only reads again.
	RetryNone = Retry(handle.RetryNone)
)

// String returns "safe", "all" or "none".
func (r Retry) String() string {
	switch r {
	case RetrySafe:
		return "safe"
	case RetryAll:
		return "all"
	case RetryNone:
		return "none"
	}
	return fmt.Sprintf("Retry(%d)", uint8(r))
}

// Config is what a [Driver] may be told. The zero value is a good
// configuration.
type Config struct {
	// Pool configures the pool of each node. What is 0 in it takes the value
	// that the client's own options give to the same thing, if they do
	// (PoolSize or MaxActiveConns, MinIdleConns, MaxIdleConns, MaxConcurrentDials,
	// ConnMaxIdleTime, ConnMaxLifetime and its jitter, DialTimeout), and the default
	// otherwise. The first client to use a node decides for it; what a later one
	// asks for in vain is logged. If MaxOpenConns is 0 the clients that have handles
	// on a node bring it their bounds together, as each has sockets of its own with the
	// stock pool. If WaitTimeout is 0 the PoolTimeout of each client
	// holds for its own requests.
	Pool pooler.Config

	// MaxOpenConnsTotal bounds the sockets of all the driver's nodes together, sentinels
	// among them, those being dialed included, streams apart, besides what
	// Pool.MaxOpenConns bounds at each. Each node that is used may have one at once, so
	// there may be more for a moment, and as many as nodes at least. See
	// [pooler.Budget] for which node gets what is left. 0, -1: there is no such bound.
	MaxOpenConnsTotal int

	// Retry says what may be sent again. Default: RetrySafe.
	Retry Retry

	// Gather says when commands of concurrent callers are gathered, of clients for which
	// that was asked for: see [Driver.Gather] and [WithGathering].
	Gather GatherConfig

	// Dial opens a physical connection. TLS, where the client's options ask for
	// it, is put on top unless the connection is a TLS connection already. It
	// must respect ctx. nil: the Dialer of the client's options if they have
	// one, which then is responsible for TLS as in go-redis; otherwise TCP (no
	// delay, keep-alive, TCP_USER_TIMEOUT where there is such a thing) or a
	// unix socket.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// MapAddr says where the node of an address is dialed, for nodes whose announced
	// addresses can't be reached from here (NAT, containers, forwarded ports). The
	// announced one stays the node's name: in metrics, errors, and for TLS. It is
	// called for each dial, and must be safe for concurrent use. nil: where they say.
	MapAddr func(announced string) (dial string)

	// LeaveContextTimeout leaves ContextTimeoutEnabled as the client's options
	// have it. By default it is switched on: contexts' deadlines bound reading and
	// writing too, and one that passes costs no connection. Whichever it is, a
	// context ends a wait for a node that can't be reached; but with RESP2, where
	// requests don't know their context, not that of the first ones of an outage if it
	// is left off.
	LeaveContextTimeout bool

	// Logger is told of the changes of a node's state; of the first request of an
	// outage whose outcome is unknown, and of the first that got no connection in time;
	// of settings of clients that aren't in force since clients share a node; and, at
	// level debug, of the settings of each node that is used. nil: slog.Default.
	Logger *slog.Logger

	// NewPooler makes the pool of a node: that of [pooler.New], with something
	// around it. It is called with the driver locked, so it must not call the
	// driver. nil: [pooler.New].
	NewPooler func(node pooler.Node, cfg pooler.Config) (pooler.Pooler, error)
}

// budget is for all nodes together, or nil.
func (c Config) budget() *pooler.Budget {
	if c.MaxOpenConnsTotal < 1 {
		return nil
	}
	b, _ := pooler.NewBudget(c.MaxOpenConnsTotal) // which fails for less only
	return b
}

// validate returns everything that is wrong, in one error.
func (c Config) validate() error {
	var wrong complaints
	if c.Retry > RetryNone {
		wrong.add("Retry is %d; allowed are RetrySafe (0), RetryAll (1) and RetryNone (2)", c.Retry)
	}
	if c.MaxOpenConnsTotal < -1 {
		wrong.add("MaxOpenConnsTotal is %d; allowed are 1 and more, 0 and -1 (no bound)", c.MaxOpenConnsTotal)
	}
	if bindingOf(c.Dial) != nil {
		wrong.add("Dial is everpool's own, as Options makes them; allowed is a function that opens sockets")
	}
	return errors.Join(append(wrong, c.Gather.validate(), c.Pool.Validate())...)
}
