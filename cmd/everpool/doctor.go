package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/everpool/everpool/cmd/everpool/internal/doctor"
)

const doctorUsage = `usage: everpool doctor [-timeout 5s] [-json] URL

Looks at what the URL is the address of, step by step. URLs are those of driver.Open:

  redis://user:password@host:6379/0             one server; rediss:// with TLS, unix:///path
  redis://host1:6379?addr=host2:6379            a cluster; of one known node ?cluster=true
  redis://host1:26379?master_name=main          a master that sentinels watch

In a shell put the URL in single quotes. What is special in a password (@ : / % ? #) must be
percent-encoded in it. It is never shown.

Each line has a status, a step, what was found and, behind ->, what to do:

  ok        as it should be
  note      couldn't be looked at, mostly since the user may not; nothing is wrong
  warning   works, and may not when it matters
  failed    doesn't work

It reads only. Exit status: 0 if nothing failed, 1 if something did or it was interrupted,
2 if it was used wrongly.

The flags are:

`

// doctorSettings are what doctor is told.
type doctorSettings struct {
	url     string
	timeout time.Duration
	json    bool
}

// runDoctor is the command doctor. It returns the exit status.
func runDoctor(ctx context.Context, args []string, out, errs io.Writer) int {
	set, err := parseDoctor(args, out)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		tell(errs, "everpool doctor: %v\n\"everpool doctor -h\" has how to use it\n", err)
		return exitUsage
	}
	report, err := examine(ctx, set, out)
	if err != nil {
		tell(errs, "everpool doctor: can't write: %v\n", err)
		return exitFailed
	}
	if !report.Healthy {
		return exitFailed
	}
	return exitOK
}

// examine writes the findings, each as soon as there is one unless they are JSON.
func examine(ctx context.Context, set doctorSettings, out io.Writer) (report doctor.Report, err error) {
	report.Healthy = doctor.Examine(ctx, set.url, set.timeout, func(f doctor.Finding) {
		report.Findings = append(report.Findings, f)
		if !set.json && err == nil {
			err = doctor.WriteText(out, f)
		}
	})
	if set.json {
		err = doctor.WriteJSON(out, report)
	}
	return report, err
}

// parseDoctor reads the arguments. Its errors have none of them: one may be a URL with a
// password.
func parseDoctor(args []string, out io.Writer) (set doctorSettings, err error) {
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.DurationVar(&set.timeout, "timeout", 5*time.Second, "how long each thing that is waited for may take, such as 2s; at least 1ms")
	flags.BoolVar(&set.json, "json", false, "write the findings as JSON")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(out)
		tell(out, "%s", doctorUsage)
		flags.PrintDefaults()
		return set, err
	case err != nil:
		return set, errors.New("a flag is unknown or has a wrong value; allowed are -timeout with a duration such as 5s, -json and -h, before the URL")
	}
	var wrong []error
	if set.timeout < time.Millisecond {
		wrong = append(wrong, fmt.Errorf("-timeout is %s; allowed are 1ms and more", set.timeout))
	}
	if n := flags.NArg(); n != 1 {
		text := fmt.Sprintf("there are %d arguments; allowed is one URL", n)
		if n > 1 && strings.HasPrefix(flags.Arg(1), "-") {
			text += ", behind the flags"
		}
		wrong = append(wrong, errors.New(text))
	}
	set.url = flags.Arg(0)
	return set, errors.Join(wrong...)
}
