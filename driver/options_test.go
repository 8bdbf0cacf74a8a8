package driver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

func TestAllThatIsWrongWithTheOptionsIsToldInOneErrorByEveryCommand(t *testing.T) {
	for name, c := range map[string]struct {
		options redis.Options
		named   []string
	}{
		"udp":            {redis.Options{Network: "udp", Addr: labAddr}, []string{"Network", "udp"}},
		"TLS on unix":    {redis.Options{Network: "unix", Addr: "/s", TLSConfig: &tls.Config{}}, []string{"TLSConfig", "unix"}}, //nolint:gosec // isn't used
		"negative sizes": {redis.Options{Addr: labAddr, PoolSize: -1, MinIdleConns: -2, MaxIdleConns: -3, MaxActiveConns: -4, ReadBufferSize: -5, WriteBufferSize: -6}, []string{"PoolSize is -1", "MinIdleConns is -2", "MaxIdleConns is -3", "MaxActiveConns is -4", "ReadBufferSize is -5", "WriteBufferSize is -6"}},
		"all at once":    {redis.Options{Network: "udp", Addr: labAddr, PoolSize: -1, MaxActiveConns: -4}, []string{"udp", "PoolSize is -1", "MaxActiveConns is -4"}},
		"bare numbers":   {redis.Options{Addr: labAddr, PoolTimeout: 5, DialTimeout: 5000, ReadTimeout: 5, WriteTimeout: 6, ConnMaxIdleTime: 30, ConnMaxLifetime: 1, ConnMaxLifetimeJitter: 2}, []string{"PoolTimeout is 5ns", "DialTimeout is 5µs", "ReadTimeout is 5ns", "WriteTimeout is 6ns", "ConnMaxIdleTime is 30ns", "ConnMaxLifetime is 1ns", "ConnMaxLifetimeJitter is 2ns", "unit"}},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				o := c.options
				o.MaxRetries = 3
				rdb := redis.NewClient(t.d.Options(&o))
				defer rdb.Close()
				start := time.Now()
				for _, err := range []error{
					rdb.Ping(t.Context()).Err(), rdb.Incr(t.Context(), "n").Err(), rdb.Subscribe(t.Context(), "c").Ping(t.Context()),
				} {
					t.wantErr(err, pooler.ErrConfig)
					for _, n := range c.named {
						if !strings.Contains(err.Error(), n) {
							t.Errorf("%q doesn't name %q", err, n)
						}
					}
				}
				if time.Since(start) != 0 || t.f.Dials() != 0 {
					t.Errorf("took %v and %d dials", time.Since(start), t.f.Dials())
				}
			})
		})
	}
}

func TestABadConfigurationIsRefusedWithAllThatIsWrong(t *testing.T) {
	_, err := driver.New(driver.Config{Retry: 9, Pool: pooler.Config{MaxOpenConns: -2, DialTimeout: -1, BackoffMin: -3}})
	if !errors.Is(err, pooler.ErrConfig) {
		t.Fatal(err)
	}
	for _, n := range []string{"Retry is 9", "MaxOpenConns is -2", "DialTimeout", "BackoffMin"} {
		if !strings.Contains(err.Error(), n) {
			t.Errorf("%q doesn't name %q", err, n)
		}
	}
}

func TestOptionsAreACopyThatLeavesTheCallersAlone(t *testing.T) {
	d := newDriver(t, driver.Config{})
	newOptions := func() *redis.Options {
		return &redis.Options{
			Addr: labAddr, TLSConfig: &tls.Config{ServerName: "name"}, //nolint:gosec // isn't used
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeAuto},
		}
	}
	o := newOptions()
	a, b := d.Options(o), d.Options(o)
	rdb := redis.NewClient(a)
	defer rdb.Close()
	a.Addr, a.MaintNotificationsConfig.Mode, a.PoolSize = "changed", maintnotifications.ModeDisabled, 1
	ignore := cmpopts.IgnoreUnexported(redis.Options{}, tls.Config{}, maintnotifications.Config{})
	if diff := cmp.Diff(newOptions(), o, ignore); diff != "" {
		t.Errorf("the caller's options (-before +after):\n%s", diff)
	}
	if b.Addr != labAddr || b.MaintNotificationsConfig.Mode != maintnotifications.ModeAuto {
		t.Error("two copies have something in common")
	}
	if d.Options(nil) == nil {
		t.Error("no options, no copy")
	}
}

func TestWhatTheUserHasSetStays(t *testing.T) {
	d := newDriver(t, driver.Config{})
	o := d.Options(&redis.Options{
		ReadBufferSize: 100, WriteBufferSize: 200, PipelinePoolSize: 3, DialerRetries: 4,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeAuto},
	})
	if o.ReadBufferSize != 100 || o.WriteBufferSize != 200 || o.DialerRetries != 4 ||
		o.MaintNotificationsConfig.Mode != maintnotifications.ModeAuto {
		t.Errorf("%+v", o)
	}
	o = d.Options(&redis.Options{})
	if o.PoolSize != 4096 || o.ReadBufferSize != 1024 || o.ConnMaxIdleTime != -1 || o.DialerRetries != 1 ||
		o.MaintNotificationsConfig.Mode != maintnotifications.ModeDisabled || o.Dialer == nil {
		t.Errorf("defaults: %+v", o)
	}
}

func TestTheUsersDialerOpensThePhysicalConnections(t *testing.T) {
	inLab(t, driver.Config{Dial: nil}, func(t *lab) {
		var users atomic.Int64
		d := newDriver(t.T, driver.Config{})
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			users.Add(1)
			return t.f.Dial(ctx, network, addr)
		}
		var clients []*redis.Client
		for range 2 {
			rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr, Dialer: dial, TLSConfig: &tls.Config{}})) //nolint:gosec // isn't used
			t.Cleanup(func() { _ = rdb.Close() })
			clients = append(clients, rdb)
			for range 5 {
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Error(err)
				}
			}
		}
		// Nobody knows whether two dialers lead to the same place.
		if n := users.Load(); n != 2 || len(d.Nodes()) != 2 {
			t.Errorf("%d dials of %d clients, %d nodes", n, len(clients), len(d.Nodes()))
		}
	})
}

func TestConfigDialGetsTLSOnTopWithTheNodesName(t *testing.T) {
	cert := selfSigned(t, "node.example")
	server, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}}) //nolint:gosec // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	names := make(chan string, 10)
	go func() {
		for {
			nc, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				buf := make([]byte, 4096)
				for {
					n, err := nc.Read(buf)
					if err != nil {
						return
					}
					names <- nc.(*tls.Conn).ConnectionState().ServerName
					_, _ = nc.Write([]byte(strings.Repeat("+PONG\r\n", strings.Count(string(buf[:n]), "PING"))))
				}
			}()
		}
	}()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	var dialed atomic.Pointer[string]
	d := newDriver(t, driver.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed.Store(&addr)
		return (&net.Dialer{}).DialContext(ctx, network, server.Addr().String())
	}})
	o := d.Options(&redis.Options{Addr: "node.example:6379", TLSConfig: &tls.Config{RootCAs: roots}}) //nolint:gosec // a test's
	v, err := o.Dialer(t.Context(), "tcp", "node.example:6379")
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	_ = v.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := v.Write([]byte(frames("PING"))); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := v.Read(buf); string(buf[:n]) != "+PONG\r\n" || err != nil {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if name := <-names; name != "node.example" || *dialed.Load() != "node.example:6379" || !d.Nodes()[0].TLS {
		t.Errorf("server name %q, dialed %q, %+v", name, *dialed.Load(), d.Nodes())
	}
}

func selfSigned(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
