package testkit_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

func eachKind(t *testing.T, test func(t *testing.T, kind testkit.Kind)) {
	t.Helper()
	t.Parallel() // what runs are its subtests
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			testkit.Waits(t)
			test(t, kind)
		})
	}
}

func options(s *testkit.Server) *redis.Options {
	return &redis.Options{Network: s.Network, Addr: s.Addr, TLSConfig: s.TLSConfig()}
}

func ping(t *testing.T, o *redis.Options) error {
	t.Helper()
	rdb := redis.NewClient(o)
	defer rdb.Close()
	return rdb.Ping(t.Context()).Err()
}

func TestServerKillAndRestart(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		s := testkit.Start(t, kind, testkit.WithArgs("--appendonly", "yes", "--appendfsync", "always"))
		if got := s.Do(t, "SET", "k", "v"); got != "OK" {
			t.Fatal(got)
		}
		addr, pid := s.Addr, s.PID()
		s.Kill()
		_, err := s.Call(t.Context(), "PING")
		wantErr(t, "ping", err, syscall.ECONNREFUSED)
		s.Restart(t)
		if s.Addr != addr || s.PID() == pid {
			t.Fatalf("%s pid %d, was %s pid %d", s.Addr, s.PID(), addr, pid)
		}
		if got := s.Do(t, "GET", "k"); got != "v" {
			t.Fatal(got)
		}
		s.Kill()
		s.StartAgain(t)
		s.WaitReady(t)
		if got := s.Do(t, "GET", "none"); got != "(nil)" {
			t.Fatal(got)
		}
		if got := s.Do(t, "NOSUCH"); !strings.HasPrefix(got, "-ERR unknown command") {
			t.Fatal(got)
		}
		if got := s.Do(t, "CONFIG", "GET", "save"); got != "save\n" {
			t.Fatalf("%q", got)
		}
	})
}

func TestServerFreezeAndThaw(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		s := testkit.Start(t, kind)
		s.Freeze()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := s.Call(ctx, "PING")
		wantErr(t, "ping of a frozen server", err, os.ErrDeadlineExceeded)
		s.Thaw()
		if got := s.Do(t, "PING"); got != "PONG" {
			t.Fatal(got)
		}
		s.Freeze() // the cleanup kills it like this
	})
}

func TestServerTLSDemandsACertificate(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		s := testkit.Start(t, kind, testkit.WithTLS())
		if err := ping(t, options(s)); err != nil {
			t.Fatal(err)
		}
		without := options(s)
		without.TLSConfig.Certificates = nil
		without.MaxRetries = -1
		if ping(t, without) == nil {
			t.Fatal("a client without a certificate got in")
		}
	})
}

func TestServerUnixSocket(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		s := testkit.Start(t, kind, testkit.WithUnixSocket())
		if s.Network != "unix" || ping(t, options(s)) != nil {
			t.Fatal(s.Network, s.Addr)
		}
		s.Kill()
		s.Restart(t)
		if err := ping(t, options(s)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestServerPasswordAndUser(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		s := testkit.Start(t, kind,
			testkit.WithPassword(`se"cret`), testkit.WithUser("bob", "p w", "~* +@all"))
		if err := ping(t, options(s)); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
			t.Fatal(err)
		}
		o := options(s)
		o.Username, o.Password = "bob", "p w"
		if err := ping(t, o); err != nil {
			t.Fatal(err)
		}
		if got := s.Do(t, "CONFIG", "SET", "requirepass", "rotated"); got != "OK" {
			t.Fatal(got)
		}
		if got := s.Do(t, "ACL", "WHOAMI"); got != "default" {
			t.Fatal(got)
		}
		s.Kill()
		s.Restart(t)
		if got := s.Do(t, "PING"); got != "PONG" {
			t.Fatal(got)
		}
	})
}

func TestServerReplicaFollowsItsMaster(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		for name, opts := range map[string][]testkit.ServerOption{
			"plain": {testkit.WithPassword("pw")},
			"tls":   {testkit.WithTLS(), testkit.WithPassword("pw")},
		} {
			t.Run(name, func(t *testing.T) {
				master := testkit.Start(t, kind, opts...)
				replica := testkit.Start(t, kind, testkit.WithReplicaOf(master))
				conn := redis.NewClient(&redis.Options{
					Addr: master.Addr, TLSConfig: master.TLSConfig(), Password: "pw", ReadTimeout: time.Minute,
				})
				defer conn.Close()
				c := conn.Conn()
				defer c.Close()
				if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
				if n, err := c.Wait(t.Context(), 1, 30*time.Second).Result(); n != 1 || err != nil {
					t.Fatalf("%d replicas, %v; the replica's log:\n%s", n, err, replica.Log())
				}
				if got := replica.Do(t, "GET", "k"); got != "v" {
					t.Fatal(got)
				}
			})
		}
	})
}

func TestServerSentinelAndClusterMode(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		master := testkit.Start(t, kind)
		sentinel := testkit.Start(t, kind, testkit.WithSentinelOf("main", master, 1))
		got := sentinel.Do(t, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
		if want := strings.ReplaceAll(master.Addr, ":", "\n"); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
		node := testkit.Start(t, kind, testkit.WithCluster())
		if got := node.Do(t, "CLUSTER", "INFO"); !strings.Contains(got, "cluster_known_nodes:1") {
			t.Fatal(got)
		}
	})
}

func TestStartServerReportsWhyItCannotStart(t *testing.T) {
	t.Parallel()
	_, err := testkit.StartServer(t.Context(), "nosuch")
	wantErr(t, "start", err, exec.ErrNotFound)
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip(err)
	}
	_, err = testkit.StartServer(t.Context(), testkit.Redis, testkit.WithArgs("--nosuch-option", "1"))
	if err == nil || !strings.Contains(err.Error(), "nosuch-option") {
		t.Fatalf("the error doesn't show the log: %v", err)
	}
}
