// Package doctor looks at what a URL of Redis is the address of, step by step, and says
// of each step what there is and what to do about it:
//
//	healthy := doctor.Examine(ctx, rawURL, 5*time.Second, func(f doctor.Finding) { fmt.Println(f.Text) })
//
// It reads only: it changes nothing on a server. No finding has a password in it.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Status says how bad a finding is.
type Status string

// Statuses of findings. Only one that is Failed makes an examination fail.
const (
	OK      Status = "ok"
	Note    Status = "note"    // what couldn't be looked at, or is only to be known
	Warning Status = "warning" // it works, and may not when it matters
	Failed  Status = "failed"
)

// Finding is what one look has found.
type Finding struct {
	Status Status `json:"status"`
	Check  string `json:"check"`            // the step, a word
	Text   string `json:"text"`             // what was found, one line
	Advice string `json:"advice,omitempty"` // what to do about it, one line
}

func found(s Status, text string, args ...any) Finding {
	return Finding{Status: s, Text: fmt.Sprintf(text, args...)}
}

// advise returns the finding with what to do about it.
func (f Finding) advise(advice string) Finding {
	f.Advice = advice
	return f
}

// check is one step. It finds what it is for, and keeps in known what later ones need.
type check struct {
	name  string
	run   func(context.Context, *known) []Finding
	vital bool // if it has failed, there is nothing for the others to look at
}

// known is what the steps so far have learned.
type known struct {
	rawURL  string
	timeout time.Duration
	secrets secrets
	target  target
	addrs   []string // of the nodes to look at: those that were reached so far
	node    *node    // the one that is asked
}

// bounded is the context of one thing that is asked for, or waited for.
func (k *known) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, k.timeout)
}

func (k *known) clean(text string) string { return k.secrets.clean(text) }

// say is what an error says, fit to be shown.
func (k *known) say(err error) string {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer in %s", k.timeout)
	}
	return k.clean(err.Error())
}

// Examine looks at what the URL is the address of, as [driver.Open] takes it, and calls
// report with each finding as soon as there is one. Nothing that it waits for may take
// longer than timeout. It returns whether nothing has failed, when all is looked at, or
// soon after ctx is done, which is a failure.
func Examine(ctx context.Context, rawURL string, timeout time.Duration, report func(Finding)) (healthy bool) {
	k := &known{rawURL: rawURL, timeout: timeout}
	defer func() { k.node.close() }()
	healthy = true
	for _, c := range append([]check{{"url", checkURL, true}}, checks...) {
		failed := false
		for _, f := range c.run(ctx, k) {
			if ctx.Err() != nil {
				break // what was found is the interruption
			}
			f.Check = c.name
			failed = failed || f.Status == Failed
			report(f)
		}
		healthy = healthy && !failed
		if ctx.Err() != nil {
			report(Finding{Failed, c.name, "interrupted; nothing further was looked at", ""})
			return false
		}
		if failed && c.vital {
			return false
		}
	}
	return healthy
}

// checks are all steps after the URL, in order. One that isn't for what the URL names
// finds nothing.
var checks = []check{
	{"sentinels", checkSentinels, true},
	{"name", checkNames, true},
	{"connect", checkConnect, true},
	{"tls", checkTLS, true},
	{"login", checkLogin, true},
	{"ping", checkPing, false},
	{"server", checkServer, true},
	{"clients", checkClients, false},
	{"settings", checkSettings, false},
	{"permissions", checkPermissions, false},
	{"cluster", checkCluster, false},
	{"everpool", checkEverpool, false},
}
