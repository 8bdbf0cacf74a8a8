package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	logging.Disable()
	goleak.VerifyTestMain(m)
}

// Callers and the probe are told of the dead server, by name and without its password,
// and of its return; the other one serves all the time.
func TestTheExampleShowsWhatItSays(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v; it printed:\n%s", err, &out)
	}
	t.Log(out.String())
	rest := out.String()
	for _, want := range []string{
		`With\("orders"\), \S+: counts`, `go-redis alone, \S+: counts`, `With\("users"\), \S+: counts`, `200 OK`, `is killed`,
		`With\("orders"\), \S+: everpool: no healthy node of "orders": 127.0.0.1:\d+ is`, `go-redis alone, \S+: dial tcp`, `With\("users"\), \S+: counts`, `503 Service Unavailable`,
		`"name":"orders","kind":"standalone","url":"redis://127.0.0.1:\d+","healthy":false`, `is started again`,
		`With\("orders"\), \S+: counts`, `200 OK`,
	} {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("no %q in its place", want)
		}
		rest = rest[at[1]:]
	}
	if strings.Contains(out.String(), "secret") {
		t.Error("the password shows")
	}
}
