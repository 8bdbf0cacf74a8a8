package driver_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

func TestAnAddressThatCantBeDialedIsRefusedWithoutItsPassword(t *testing.T) {
	for addr, says := range map[string]string{
		"localhost":               `"localhost", without a port; allowed is host:port, as localhost:6379`,
		"10.0.0.1":                `without a port; allowed is host:port, as 10.0.0.1:6379`,
		"::1":                     `an IPv6 address in brackets, as [::1]:6379`,
		"::1:6379":                "brackets",
		"localhost:":              `port is ""; allowed are 1 to 65535`,
		"localhost:0":             `port is "0"; allowed are 1 to 65535`,
		"localhost:66666":         `port is "66666"; allowed are 1 to 65535`,
		"localhost:-1":            `port is "-1"; allowed are 1 to 65535`,
		"localhost:nosuchservice": `port "nosuchservice" isn't known`,
		"a:1,b:2":                 `"a:1,b:2"; allowed is the host:port of one node, and no list`,
		"a:1;b:2":                 "no list",
		"a,b:6379":                "no list",
		" localhost:6379":         "without spaces",
		"localhost:6379,password=hunter2,ssl=True": `Addr is "localhost:6379" with more around it`,
		"localhost:6379?password=hunter2":          "host:port alone",
		"redis://localhost:6379":                   "URL",
		"redis://user:hunter2@localhost:6379/0":    `of "localhost:6379"`,
		"rediss://:hunter2@localhost":              "URL",
		"user:hunter2@localhost:6379":              "a login in it",
		"hunter2@localhost:6379":                   "a login in it",
		"redis://:hunter2@a:1,redis://:hunter2@b":  "URL",
	} {
		t.Run(addr, func(t *testing.T) {
			log := new(lines)
			d := newDriver(t, driver.Config{Logger: log.logger()})
			asked := redis.NewClient(d.Options(&redis.Options{Addr: addr, MaxRetries: 3}))
			defer asked.Close()
			later := d.Options(&redis.Options{Addr: labAddr})
			later.Addr = addr // which Options hasn't seen
			changed := redis.NewClient(later)
			defer changed.Close()
			_, opened := driver.Open("redis://localhost", driver.WithClientOptions(func(o *redis.Options) { o.Addr = addr }))
			for how, err := range map[string]error{
				"Ping": asked.Ping(t.Context()).Err(), "again": asked.Ping(t.Context()).Err(), "changed later": changed.Ping(t.Context()).Err(),
				"Subscribe": asked.Subscribe(t.Context(), "c").Ping(t.Context()), "Open": opened,
			} {
				if !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), "Addr is") || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %v doesn't say %q", how, err, says)
				}
				if err != nil && strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s: the password is in %v", how, err)
				}
			}
			nc, err := later.Dialer(t.Context(), "tcp", addr)
			if err != nil || strings.Contains(nc.RemoteAddr().String(), "hunter2") {
				t.Errorf("%v; a remote address of %v", err, nc.RemoteAddr())
			}
			if all := log.with(""); len(all) != 0 || len(d.Nodes()) != 0 {
				t.Errorf("logged %q; nodes %v", all, d.Nodes())
			}
		})
	}
}

func TestAddressesThatCanBeDialedAreNotRefused(t *testing.T) {
	for _, o := range []redis.Options{
		{},
		{Addr: "localhost:6379"},
		{Addr: ":6379"},
		{Addr: "[::1]:6379"},
		{Addr: "[fe80::1%eth0]:6379"},
		{Addr: "host_name.example.:1"},
		{Addr: "localhost:http"},
		{Addr: "/var/run/a:b@c,d e.sock"},
		{Network: "unix", Addr: "@abstract"},
		{Network: "unix", Addr: "redis.sock"},
		{Addr: "the bastion", Dialer: mustNotDial(t)},
		{Addr: "ssm://i-1234,5", Dialer: mustNotDial(t)},
		{Addr: "user@bastion", Dialer: mustNotDial(t)},
	} {
		url := "redis://localhost"
		db, err := driver.Open(url, driver.WithClientOptions(func(to *redis.Options) { *to = o }))
		if err != nil {
			t.Errorf("%q, network %q: %v", o.Addr, o.Network, err)
			continue
		}
		_ = db.Close()
	}
	_, err := driver.Open("redis://localhost", driver.WithClientOptions(func(o *redis.Options) {
		o.Addr, o.Dialer = "proxy://user:hunter2@host", mustNotDial(t)
	}))
	if !errors.Is(err, pooler.ErrConfig) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password that everybody would see: %v", err)
	}
}
