package doctor_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/cmd/everpool/internal/doctor"
)

// patience is longer than any server takes on a busy machine.
const patience = time.Minute

// examination is what was found, and whether that is healthy.
type examination struct {
	healthy  bool
	findings []doctor.Finding
	text     string
}

// examine looks at the URL, and fails the test if any of the secrets is shown, as text or
// as JSON, or if what is healthy has a finding that has failed, or the reverse.
func examine(t *testing.T, rawURL string, secrets ...string) examination {
	t.Helper()
	var e examination
	var out bytes.Buffer
	e.healthy = doctor.Examine(t.Context(), rawURL, patience, func(f doctor.Finding) {
		e.findings = append(e.findings, f)
		if err := doctor.WriteText(&out, f); err != nil {
			t.Fatal(err)
		}
	})
	e.text = out.String()
	if err := doctor.WriteJSON(&out, doctor.Report{Healthy: e.healthy, Findings: e.findings}); err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		if strings.Contains(out.String(), s) {
			t.Errorf("the secret %q is in what was written:\n%s", s, out.String())
		}
	}
	if lines := strings.Count(e.text, "\n"); lines != len(e.findings) {
		t.Errorf("%d findings are %d lines", len(e.findings), lines)
	}
	if e.healthy == slices.ContainsFunc(e.findings, func(f doctor.Finding) bool { return f.Status == doctor.Failed }) {
		t.Errorf("healthy is %t, with the findings\n%s", e.healthy, e.text)
	}
	return e
}

// wants fails the test unless there is such a finding, whose advice has those words.
func (e examination) wants(t *testing.T, s doctor.Status, check, text, advice string) {
	t.Helper()
	if !slices.ContainsFunc(e.findings, func(f doctor.Finding) bool {
		return f.Status == s && f.Check == check && strings.Contains(f.Text, text) && strings.Contains(f.Advice, advice)
	}) {
		t.Errorf("there is no %s of %s with %q and the advice %q in\n%s", s, check, text, advice, e.text)
	}
}

// wantsSteps fails the test unless these are the steps that were taken, in order.
func (e examination) wantsSteps(t *testing.T, steps string) {
	t.Helper()
	var taken []string
	for _, f := range e.findings {
		taken = append(taken, f.Check)
	}
	if got := strings.Join(slices.Compact(taken), " "); got != steps {
		t.Errorf("the steps are %q, not %q:\n%s", got, steps, e.text)
	}
}

// parrot is a server that understands nothing, and says so with all that it was told.
func parrot(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { repeatAll(nc) })
		}
	})
	return l.Addr().String()
}

func repeatAll(nc net.Conn) {
	defer nc.Close()
	r := bufio.NewReader(nc)
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		if err != nil {
			return
		}
		told := strings.NewReplacer("\r", " ", "\n", " ").Replace(string(buf[:n]))
		if _, err := fmt.Fprintf(nc, "-ERR what is %s %q\r\n", told, told); err != nil {
			return
		}
	}
}

// urlOf is a URL with a login.
func urlOf(scheme, user, password, addr, rest string) string {
	u := url.URL{Scheme: scheme, User: url.UserPassword(user, password), Host: addr}
	return u.String() + rest
}

// hostile are passwords that are hard to keep out of what is written.
var hostile = []string{`p@s:w/%d`, `x y"z'\q`, `%41?b#c&d=e`, "näh+%2F@@//::", `hunter2`}

// written are the ways in which a password may appear.
func written(password string) []string {
	quoted := fmt.Sprintf("%q", password)
	return []string{
		password, url.QueryEscape(password), url.PathEscape(password), quoted[1 : len(quoted)-1],
		strings.TrimPrefix(url.UserPassword("", password).String(), ":"),
	}
}
