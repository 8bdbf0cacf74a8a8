package main

import (
	"bytes"
	"os/exec"
	"regexp"
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/everpool/everpool/internal/testkit"
)

func TestMain(m *testing.M) {
	logging.Disable()
	// go-redis's own pool looks for a dead server once a second, closed or not.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// What the example promises is so: with everpool nothing fails but INCRs of unknown
// outcome.
func TestTheExampleShowsWhatItSays(t *testing.T) {
	testkit.LongOnly(t)
	if _, err := exec.LookPath("redis-server"); err != nil {
		testkit.Start(t, testkit.Redis) // says so, or fails
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-callers", "4", "-for", "1s"}, &out); err != nil {
		t.Fatalf("%v; it printed:\n%s", err, &out)
	}
	t.Log(out.String())
	failed := regexp.MustCompile(`(?m)^failed +(\d+)`).FindStringSubmatch(out.String())
	unknown := regexp.MustCompile(`(?m)^ +of unknown outcome +(\d+)`).FindStringSubmatch(out.String())
	if failed == nil || unknown == nil || failed[1] != unknown[1] {
		t.Errorf("%v failed, %v of unknown outcome", failed, unknown)
	}
}
