package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/everpool/everpool/cmd/everpool/internal/doctor"
	"github.com/everpool/everpool/internal/testkit"
)

func TestMain(m *testing.M) {
	logging.Disable()
	goleak.VerifyTestMain(m)
}

// call is what the program has written and returned.
func call(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(t.Context(), args, &o, &e)
	return status, o.String(), e.String()
}

func TestHelpIsGiven(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"-h"}, {"--help"}, {"doctor", "-h"}, {"doctor", "--help"}} {
		status, out, errs := call(t, args...)
		if status != exitOK || !strings.Contains(out, "usage: everpool") || errs != "" {
			t.Errorf("%q: status %d, %q, %q", args, status, out, errs)
		}
	}
}

func TestWrongUsageIsRefusedWithWhatIsAllowedAndNoPassword(t *testing.T) {
	const url = "redis://:hunter2@127.0.0.1:1"
	for _, c := range []struct {
		says string
		args []string
	}{
		{"usage: everpool command", nil},
		{"allowed are doctor and help", []string{"docter", url}},
		{"allowed are doctor and help", []string{url}},
		{"allowed is one URL", []string{"doctor"}},
		{"allowed is one URL", []string{"doctor", url, url}},
		{"allowed is one URL, behind the flags", []string{"doctor", url, "-json"}},
		{"allowed are -timeout with a duration", []string{"doctor", "-nonsense=" + url, url}},
		{"allowed are -timeout with a duration", []string{"doctor", "-timeout", "5", url}},
		{"-timeout is 0s; allowed are 1ms and more", []string{"doctor", "-timeout", "0", url}},
		{"-timeout is 5ns; allowed are 1ms and more", []string{"doctor", "-timeout", "5ns", url}},
		{"-timeout is -1s; allowed are 1ms and more", []string{"doctor", "-timeout", "-1s"}},
	} {
		status, out, errs := call(t, c.args...)
		if status != exitUsage || out != "" || !strings.Contains(errs, c.says) || strings.Contains(errs, "hunter2") {
			t.Errorf("%q: status %d, %q, %q; wanted %q", c.args, status, out, errs, c.says)
		}
	}
}

func TestTheExitStatusSaysWhetherAnythingFailed(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithPassword("hunter2"))
	if status, out, errs := call(t, "doctor", "-timeout", "1m", "redis://:hunter2@"+s.Addr); status != exitOK || errs != "" {
		t.Errorf("of a healthy server: status %d\n%s%s", status, out, errs)
	}
	if status, out, errs := call(t, "doctor", "-timeout", "1m", "redis://:hunter3@"+s.Addr); status != exitFailed || errs != "" {
		t.Errorf("of a wrong password: status %d\n%s%s", status, out, errs)
	}
	if status, _, _ := call(t, "doctor", "nonsense"); status != exitFailed {
		t.Errorf("of what is no URL: status %d", status)
	}
}

func TestJSONHasTheSameFindingsAsText(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithPassword("hunter2"))
	for _, url := range []string{"redis://:hunter2@" + s.Addr, "redis://:wrong@" + s.Addr} {
		_, text, _ := call(t, "doctor", "-timeout", "1m", url)
		status, out, _ := call(t, "doctor", "-timeout", "1m", "-json", url)
		var report doctor.Report
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		if report.Healthy != (status == exitOK) {
			t.Errorf("healthy is %t, the status %d", report.Healthy, status)
		}
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if len(lines) != len(report.Findings) {
			t.Fatalf("%d lines, %d findings\n%s\n%s", len(lines), len(report.Findings), text, out)
		}
		for i, f := range report.Findings {
			if words := strings.Fields(lines[i]); words[1] != f.Check || f.Text == "" {
				t.Errorf("line %q is the finding %+v", lines[i], f)
			}
		}
	}
}

func TestOutputThatCantBeWrittenIsAFailure(t *testing.T) {
	closed, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, args := range [][]string{{"doctor", "nonsense"}, {"doctor", "-json", "nonsense"}} {
		var errs bytes.Buffer
		if status := run(t.Context(), args, closed, &errs); status != exitFailed || !strings.Contains(errs.String(), "can't write") {
			t.Errorf("%q: status %d, %q", args, status, errs.String())
		}
	}
}
