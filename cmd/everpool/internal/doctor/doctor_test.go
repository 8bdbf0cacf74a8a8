package doctor_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/everpool/everpool/cmd/everpool/internal/doctor"
	"github.com/everpool/everpool/internal/testkit"
)

func TestAHealthyServerPassesAllSteps(t *testing.T) {
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			const password = `p@s:w/%d`
			s := testkit.Start(t, kind, testkit.WithPassword(password))
			e := examine(t, urlOf("redis", "", password, s.Addr, "/2?max_open_conns=7&pool_timeout=2s&conn_max_idle_time=90s"), written(password)...)
			e.wantsSteps(t, "url name connect tls login ping server clients settings permissions everpool")
			e.wants(t, doctor.OK, "url", "one server, "+s.Addr+", database 2", "")
			e.wants(t, doctor.OK, "login", "the user default", "")
			e.wants(t, doctor.OK, "server", "mode standalone, role master, protocol RESP3", "")
			e.wants(t, doctor.OK, "server", strings.ToUpper(string(kind[:1]))+string(kind[1:])+" ", "")
			e.wants(t, doctor.OK, "clients", "of 10000 clients", "")
			e.wants(t, doctor.OK, "settings", "timeout is 0", "")
			e.wants(t, doctor.OK, "settings", "tcp-keepalive is 300", "")
			e.wants(t, doctor.OK, "settings", "client-output-buffer-limit normal is 0 0 0", "")
			e.wants(t, doctor.OK, "permissions", "SELECT", "")
			e.wants(t, doctor.OK, "permissions", "EVAL", "")
			e.wants(t, doctor.OK, "everpool", "a PING through everpool is answered", "")
			e.wants(t, doctor.OK, "everpool", "share up to 7 connections", "")
			e.wants(t, doctor.OK, "everpool", "at most 7 sockets", "")
			e.wants(t, doctor.OK, "everpool", "wait for a connection 2s", "")
			e.wants(t, doctor.OK, "everpool", "close after 1m30s", "")
		})
	}
}

func TestAUnixSocketIsLookedAtToo(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithUnixSocket())
	e := examine(t, "unix://"+s.Addr)
	e.wantsSteps(t, "url connect login ping server clients settings permissions everpool")
	examine(t, "unix://"+s.Addr+".gone").wants(t, doctor.Failed, "connect", "can't be reached", "there is no such socket")
}

func TestAWrongPasswordIsToldAndNotShown(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithPassword("the right one"), testkit.WithUser("ann", "another", "+@all"))
	for _, password := range hostile {
		for _, user := range []string{"", "ann", "nobody"} {
			e := examine(t, urlOf("redis", user, password, s.Addr, ""), written(password)...)
			e.wants(t, doctor.Failed, "login", "WRONGPASS", "percent-encode")
			e.wantsSteps(t, "url name connect tls login")
		}
	}
	examine(t, "redis://"+s.Addr).wants(t, doctor.Failed, "login", "NOAUTH", "redis://user:password@host")
	e := examine(t, "redis://hunter2@"+s.Addr, "hunter2")
	e.wants(t, doctor.Warning, "url", "a user and no password", "redis://:password@host")
}

func TestAServerThatRepeatsAllThatItIsToldShowsNoPassword(t *testing.T) {
	addr := parrot(t)
	for _, password := range hostile {
		e := examine(t, urlOf("redis", "ann", password, addr, ""), written(password)...)
		e.wants(t, doctor.Failed, "login", "ERR what is", "")
		if !strings.Contains(e.text, "***") {
			t.Errorf("the server has not repeated the password:\n%s", e.text)
		}
		master := "?master_name=main&username=bob&password=" + url.QueryEscape(password)
		examine(t, urlOf("redis", "ann", password, addr, master), written(password)...).
			wants(t, doctor.Failed, "sentinels", "ERR what is", "that of the nodes is in the parameters")
	}
}

func TestAURLThatIsWrongIsRefusedWithAllItsMistakesAndNoPassword(t *testing.T) {
	for _, password := range hostile {
		for _, rest := range []string{"", "?cluster=true", "?master_name=main", "?max_open_conns=x&retry=never"} {
			for _, scheme := range []string{"redis", "http", "unix"} {
				raw := scheme + "://ann:" + password + "@127.0.0.1:1/x" + rest // not encoded
				if e := examine(t, raw, password); e.healthy {
					t.Errorf("%q is healthy", raw)
				}
			}
		}
	}
	for _, password := range []string{"12?hunter2=x", "12?a&hunter2", "12?x=1&hunter%32=y", "12/hunter2?b=c", "12#hunter2"} {
		if e := examine(t, "redis://ann:"+password+"@127.0.0.1:1", password, "hunter2"); e.healthy {
			t.Errorf("%q is healthy", password)
		}
	}
	e := examine(t, "ann:hunter2@127.0.0.1:6379", "hunter2")
	e.wants(t, doctor.Failed, "url", "begins with none of redis://", "write redis://host:port")
	e = examine(t, "redis://127.0.0.1:1?client_name=hunter2@host:1", "hunter2") // which is a URL
	e.wants(t, doctor.Failed, "connect", "127.0.0.1:1 can't be reached", "")
	e = examine(t, "redis://:hunter2@127.0.0.1:1/0?max_open_conns=x&shared_conns=-7&nonsense=1", "hunter2")
	e.wantsSteps(t, "url")
	e.wants(t, doctor.Failed, "url", `max_open_conns is "x"; allowed are whole numbers`, "go doc")
	e.wants(t, doctor.Failed, "url", "SharedConns is -7; allowed are", "go doc")
	e.wants(t, doctor.Failed, "url", "nonsense", "go doc")
}

func TestWhereNothingListensThatIsTold(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	s.Kill()
	e := examine(t, urlOf("redis", "ann", "hunter2", s.Addr, ""), "hunter2")
	e.wantsSteps(t, "url name connect")
	e.wants(t, doctor.Failed, "connect", "connection refused", "nothing listens there")
}

func TestTLSToAPortWithoutIsTold(t *testing.T) {
	e := examine(t, urlOf("rediss", "ann", "hunter2", parrot(t), ""), "hunter2")
	e.wantsSteps(t, "url name connect tls")
	e.wants(t, doctor.Failed, "tls", "doesn't speak TLS", "write redis:// in place of rediss://")
}

func TestAPortWithTLSIsToldToOneWithout(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithTLS())
	e := examine(t, urlOf("redis", "ann", "hunter2", s.Addr, ""), "hunter2")
	e.wantsSteps(t, "url name connect tls login")
	e.wants(t, doctor.Failed, "login", "doesn't let us in", "write rediss://")
}

func TestCertificatesAreLookedAt(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithTLS(), testkit.WithConfig("tls-auth-clients no"))
	e := examine(t, "rediss://"+s.Addr)
	e.wantsSteps(t, "url name connect tls")
	e.wants(t, doctor.OK, "tls", "speaks TLS 1.3", "")
	e.wants(t, doctor.Warning, "tls", "expires on", "renew it")
	e.wants(t, doctor.Failed, "tls", "isn't trusted", "TLSConfig.RootCAs")

	e = examine(t, "rediss://"+s.Addr+"?skip_verify=true")
	e.wants(t, doctor.Warning, "tls", "isn't trusted", "TLSConfig.RootCAs")
	e.wants(t, doctor.Warning, "tls", "skip_verify is set", "")
	e.wants(t, doctor.OK, "everpool", "a PING through everpool is answered", "")

	demanding := testkit.Start(t, testkit.Redis, testkit.WithTLS())
	e = examine(t, "rediss://"+demanding.Addr+"?skip_verify=true")
	e.wants(t, doctor.Note, "tls", "asks for a client's certificate", "TLSConfig.Certificates")
	e.wants(t, doctor.Failed, "login", "doesn't let us in", "tls-auth-clients")

	other := httptest.NewUnstartedServer(nil) // with a certificate for 127.0.0.1 and example.com
	other.Config.ErrorLog = log.New(io.Discard, "", 0)
	other.StartTLS()
	defer other.Close()
	_, port, err := net.SplitHostPort(other.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	examine(t, "rediss://localhost:"+port).wants(t, doctor.Failed, "tls", "the certificate isn't for localhost", "use a name that is in it")
}

func TestAUserWhoMayLittleIsToldWhatIsMissing(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithUser("poor", "hunter2", "~* -@all +get"), testkit.WithUser("rich", "hunter2", "~* +@all -eval -ping -select -client|setname"))
	e := examine(t, urlOf("redis", "poor", "hunter2", s.Addr, ""), "hunter2")
	if !e.healthy {
		t.Errorf("what may not be looked at is a failure:\n%s", e.text)
	}
	e.wants(t, doctor.OK, "login", "the user poor", "")
	e.wants(t, doctor.Note, "ping", "NOPERM", "+ping")
	e.wants(t, doctor.OK, "server", "mode standalone", "")
	e.wants(t, doctor.Note, "clients", "aren't known", "+config|get")
	e.wants(t, doctor.Note, "settings", "tcp-keepalive isn't known: NOPERM", "+config|get")
	e.wants(t, doctor.Warning, "permissions", "PING isn't permitted", "+ping")
	e.wants(t, doctor.Warning, "permissions", "COMMAND INFO isn't permitted", "+command|info")
	e.wants(t, doctor.Note, "permissions", "whether EVAL is permitted isn't known", "+acl|dryrun")
	e.wants(t, doctor.OK, "permissions", "HELLO", "")

	e = examine(t, urlOf("redis", "rich", "hunter2", s.Addr, ""), "hunter2")
	e.wants(t, doctor.Warning, "permissions", "EVAL isn't permitted", "hot keys")
	e.wants(t, doctor.Warning, "permissions", "PING isn't permitted", "+ping")
	e.wants(t, doctor.OK, "permissions", "COMMAND INFO", "")

	for _, rest := range []string{"/1", "?client_name=x"} {
		examine(t, urlOf("redis", "rich", "hunter2", s.Addr, rest), "hunter2").
			wants(t, doctor.Failed, "login", "NOPERM", "+select, +client|setname")
	}
}

func TestSettingsOfTheServerThatDoHarmAreWarnings(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithConfig(
		"maxclients 12", "timeout 60", "tcp-keepalive 0", "client-output-buffer-limit normal 1000000 0 0"))
	e := examine(t, "redis://"+s.Addr+"?max_open_conns=50")
	e.wants(t, doctor.OK, "clients", "of 12 clients", "")
	e.wants(t, doctor.Warning, "settings", "timeout is 1m0s", "conn_max_idle_time=45s")
	e.wants(t, doctor.Warning, "settings", "tcp-keepalive is 0", "CONFIG SET tcp-keepalive")
	e.wants(t, doctor.Warning, "settings", "normal is 1000000 0 0", "SCAN")
	e.wants(t, doctor.Warning, "everpool", "at most 50 sockets", "room for")

	e = examine(t, "redis://"+s.Addr+"?conn_max_idle_time=45s&shared_conns=-1&max_open_conns=-1&max_open_conns_total=9")
	e.wants(t, doctor.OK, "settings", "timeout is 1m0s", "")
	e.wants(t, doctor.OK, "everpool", "no shared connections", "")
	e.wants(t, doctor.Warning, "everpool", "no bound on the sockets", "give a bound")
	e.wants(t, doctor.OK, "everpool", "max_open_conns_total", "")
}

func TestAServerThatIsNearlyFullAndOneThatIsAreTold(t *testing.T) {
	const limit = 20
	s := testkit.Start(t, testkit.Redis, testkit.WithConfig("maxclients 20"))
	for range limit - 3 {
		hold(t, s.Addr)
	}
	e := examine(t, "redis://"+s.Addr+"?max_open_conns=2")
	e.wants(t, doctor.Warning, "clients", "of 20 clients", "raise maxclients")

	for range limit {
		hold(t, s.Addr)
	}
	e = examine(t, "redis://"+s.Addr)
	e.wants(t, doctor.Failed, "login", "max number of clients", "maxclients")
}

// hold connects until the test is over.
func hold(t *testing.T, addr string) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
}

func TestAReplicaIsTold(t *testing.T) {
	master := testkit.Start(t, testkit.Redis)
	replica := testkit.Start(t, testkit.Redis, testkit.WithReplicaOf(master))
	examine(t, "redis://"+replica.Addr).wants(t, doctor.Warning, "server", "this is a replica", "name the master")
}

func TestAnInterruptionEndsItAndIsAFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // which answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var last doctor.Finding
	healthy := doctor.Examine(ctx, "redis://"+l.Addr().String(), patience, func(f doctor.Finding) {
		if last = f; f.Check == "tls" {
			cancel() // before the login
		}
	})
	if healthy || last.Status != doctor.Failed || !strings.Contains(last.Text, "interrupted") {
		t.Errorf("healthy is %t, the last finding %+v", healthy, last)
	}
}
