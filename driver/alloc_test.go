package driver_test

import (
	"context"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func TestAHandleAddsNoAllocationToACommand(t *testing.T) {
	const reply = "$5\r\nvalue\r\n"
	for way, shared := range map[string]int{"shared": 0, "leased": -1} {
		// A process that stands still for a while would take the responder for silent, and look after it.
		d := newDriver(t, driver.Config{Pool: pooler.Config{SharedConns: shared, SilenceAfter: -1, HealthCheckInterval: -1}, Dial: func(context.Context, string, string) (net.Conn, error) {
			return &responder{reply: reply}, nil
		}})
		for of, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
			"client":  d.Options(&redis.Options{Addr: labAddr}).Dialer,
			"cluster": d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{labAddr}}).Dialer,
			"ring":    d.RingOptions(&redis.RingOptions{Addrs: map[string]string{"a": labAddr}}).Dialer,
		} {
			v, err := dial(t.Context(), "tcp", labAddr)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			for name, request := range map[string]string{
				"GET": frames("GET key"), "DEL": frames("DEL key"),
				"GET with 2 KB": frames("GET " + strings.Repeat("k", 2000)), "GET with 20 KB": frames("GET " + strings.Repeat("k", 20_000)),
			} {
				if testkit.Race && len(request) > 10_000 {
					continue // it has a sync.Pool forget things
				}
				all, buf := []byte(request), make([]byte, 4096)
				by := time.Now().Add(time.Hour)
				// What the driver asks about the cluster meanwhile allocates, too, by turns; a request would each time.
				allocs := fewestAllocs(50, func() {
					_ = v.SetWriteDeadline(by)
					for b := all; len(b) > 0; {
						piece := b[:min(len(b), 1<<10)] // as go-redis writes
						if _, err := v.Write(piece); err != nil {
							t.Fatal(err)
						}
						b = b[len(piece):]
					}
					_ = v.SetReadDeadline(by)
					if n, err := v.Read(buf); n != len(reply) || err != nil {
						t.Fatal(n, err)
					}
				})
				if allocs != 0 {
					t.Errorf("%s, of a %s, %s: %v allocations", name, of, way, allocs)
				}
			}
		}
	}
}

// fewestAllocs is how many allocations f makes at the least, of the averages of so many series
// of calls: those of other goroutines come on top.
func fewestAllocs(series int, f func()) float64 {
	fewest := math.Inf(1)
	for range series {
		fewest = min(fewest, testing.AllocsPerRun(20, f))
	}
	return fewest
}
