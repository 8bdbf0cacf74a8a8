package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheFlagsDefaults(t *testing.T) {
	s, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"everpool", "stock"}, s.drivers); diff != "" {
		t.Error(diff)
	}
	if len(s.workloads) != len(workloads) || s.duration != 5*time.Minute || s.faults.String() != defaultFaults {
		t.Errorf("the defaults are %+v", s)
	}
}

func TestAWrongFlagIsNamedWithItsValueAndWhatIsAllowed(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"-driver other", `-driver is "other"; allowed are everpool, stock and both`},
		{"-server memcached", `-server is "memcached"; allowed are redis, valkey, embedded and auto`},
		{"-workloads steady,rest", `-workloads is "steady,rest": no workload is called "rest"; allowed are all, or of steady, waves,`},
		{"-duration -1s", "-duration is -1s; allowed are 0 (until interrupted) and 1s and more"},
		{"-duration 5ms", "-duration is 5ms; allowed are"},
		{"-duration 5", `invalid value "5" for flag -duration: parse error; durations are as 90s or 5m`},
		{"-faults kil@5s", `-faults is wrong: "kil@5s": fault "kil"; allowed are kill,`},
		{"-listen 8360", `-listen is "8360"; allowed are addresses as 127.0.0.1:8360`},
		{"-wave 0", "-wave is 0; allowed are 1 to 10000"},
		{"-timeout 1ms", "-timeout is 1ms; allowed are 10ms to 1m"},
		{"-cluster -sentinel", "-cluster and -sentinel are set; allowed is one of them"},
		{"-cluster -server embedded", "-server is embedded with -cluster; allowed are redis, valkey and auto"},
		{"now", `["now"]: no arguments are allowed but flags`},
		{"-frob", "flag provided but not defined: -frob"},
		{"-wave 0 -driver other", `-driver is "other"`}, // both are named
		{"-wave 0 -driver other", `-wave is 0`},
	} {
		_, err := parse(strings.Fields(test.args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.args, err, test.want)
		}
	}
}

func TestHelpExplainsFaultsAndWorkloads(t *testing.T) {
	var out bytes.Buffer
	if _, err := parse([]string{"-help"}, &out); err == nil {
		t.Error("it would go on")
	}
	for _, want := range []string{"-driver", "-report", "freeze", "transactions", "exit status"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

// What docker-compose.yml gives to its containers is there.
func TestTheFilesOfTheContainersExist(t *testing.T) {
	text, err := os.ReadFile("docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	mounts := regexp.MustCompile(`- (\.[^:]+):/`).FindAllSubmatch(text, -1)
	if len(mounts) != 5 {
		t.Errorf("there are %d mounts, want 5", len(mounts))
	}
	for _, m := range mounts {
		if _, err := os.Stat(string(m[1])); err != nil {
			t.Error(err)
		}
	}
}
