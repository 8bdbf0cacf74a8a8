package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// fault is something that is done to the servers, or to the network before them. Both
// drivers meet it at the same moment.
type fault struct {
	kind   faultKind
	at     time.Duration // from the start of the run, or of the schedule's round
	length time.Duration // 0 for a fault of a moment
}

type faultKind string

const (
	faultKill     faultKind = "kill"
	faultFreeze   faultKind = "freeze"
	faultReset    faultKind = "reset"
	faultSilence  faultKind = "silence"
	faultSlow     faultKind = "slow"
	faultFailover faultKind = "failover"
)

// faultKinds are all of them, as flags and buttons know them.
var faultKinds = []struct {
	kind   faultKind
	length time.Duration // that the button's lasts; 0: it is over at once
	about  string
}{
	{faultKill, 1500 * time.Millisecond, "the server is killed, and started again afterwards"},
	{faultFreeze, 2 * time.Second, "nothing gets through, new connections included; nothing is lost"},
	{faultReset, 0, "all connections end with a reset"},
	{faultSilence, 0, "the connections that there are never answer again; new ones work"},
	{faultSlow, 3 * time.Second, "everything takes 20 ms longer in each direction"},
	{faultFailover, 0, "a replica takes over from its primary, by agreement"},
}

// maxFault bounds a fault's length: longer than that is another test.
const maxFault = time.Minute

// The faults of a run that isn't told otherwise. Where there are replicas the kill lasts
// until one of them is elected.
const (
	defaultFaults  = "kill@8s+1.5s,freeze@16s+2s,reset@24s,silence@30s,slow@38s+3s,every=50s"
	topologyFaults = "kill@8s+4s,freeze@20s+2s,failover@28s,reset@36s,silence@42s,slow@50s+3s,every=1m"
)

// schedule says when which faults begin.
type schedule struct {
	faults []fault       // in order, none before the end of the one before it
	every  time.Duration // when the round begins again; 0: never
}

// nth returns the fault number n, counted from 0, with the time from the start of the
// run at which it begins. It reports false if there is no such fault.
func (s schedule) nth(n int) (fault, time.Duration, bool) {
	if len(s.faults) == 0 || n >= len(s.faults) && s.every == 0 {
		return fault{}, 0, false
	}
	f := s.faults[n%len(s.faults)]
	return f, f.at + time.Duration(n/len(s.faults))*s.every, true
}

// parseSchedule reads "none", or faults as in "kill@8s+1.5s,reset@12s,every=20s". The
// error names everything that is wrong.
func parseSchedule(text string) (schedule, error) {
	var s schedule
	if text == "none" {
		return s, nil
	}
	var errs []error
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if every, ok := strings.CutPrefix(part, "every="); ok {
			d, err := time.ParseDuration(every)
			if err != nil || d <= 0 {
				errs = append(errs, fmt.Errorf("%q: allowed is a duration above 0, as in every=30s", part))
			}
			s.every = d
			continue
		}
		f, err := parseFault(part)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", part, err))
		}
		s.faults = append(s.faults, f)
	}
	if len(errs) > 0 {
		return schedule{}, errors.Join(errs...)
	}
	slices.SortStableFunc(s.faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return s, s.overlap()
}

// overlap is the error of a schedule whose faults aren't one after another.
func (s schedule) overlap() error {
	if len(s.faults) == 0 {
		return errors.New(`no fault in it; allowed are faults as in "kill@8s+1.5s,reset@12s", or none`)
	}
	var end time.Duration
	for _, f := range s.faults {
		if f.at < end {
			return fmt.Errorf("%s@%s begins before the fault before it ends, at %s", f.kind, f.at, end)
		}
		end = f.at + f.length
	}
	if s.every > 0 && s.every <= end {
		return fmt.Errorf("every=%s: the round's last fault ends at %s; allowed is more than that", s.every, end)
	}
	return nil
}

// parseFault reads kind@start, or kind@start+length.
func parseFault(text string) (fault, error) {
	name, when, ok := strings.Cut(text, "@")
	f := fault{kind: faultKind(name)}
	usual, err := usualLength(f.kind)
	if err != nil {
		return f, err
	}
	if !ok {
		return f, fmt.Errorf("when? As in %s@10s", name)
	}
	at, length, lasting := strings.Cut(when, "+")
	if f.at, err = time.ParseDuration(at); err != nil || f.at < 0 {
		return f, fmt.Errorf("start %q; allowed is a duration from 0, as in 10s", at)
	}
	if usual == 0 {
		if lasting {
			return f, fmt.Errorf("length %q; a %s is over at once", length, name)
		}
		return f, nil
	}
	f.length = usual
	if !lasting {
		return f, nil
	}
	if f.length, err = time.ParseDuration(length); err != nil || f.length <= 0 || f.length > maxFault {
		return f, fmt.Errorf("length %q; allowed is a duration above 0, at most %s", length, maxFault)
	}
	return f, nil
}

// usualLength is how long a fault of the kind lasts if nobody says; the error is that of
// a kind that there isn't.
func usualLength(kind faultKind) (time.Duration, error) {
	names := make([]string, len(faultKinds))
	for i, k := range faultKinds {
		if k.kind == kind {
			return k.length, nil
		}
		names[i] = string(k.kind)
	}
	return 0, fmt.Errorf("fault %q; allowed are %s", kind, strings.Join(names, ", "))
}

// String is the schedule as parseSchedule reads it.
func (s schedule) String() string {
	if len(s.faults) == 0 {
		return "none"
	}
	parts := make([]string, 0, len(s.faults)+1)
	for _, f := range s.faults {
		part := fmt.Sprintf("%s@%s", f.kind, f.at)
		if f.length > 0 {
			part += "+" + f.length.String()
		}
		parts = append(parts, part)
	}
	if s.every > 0 {
		parts = append(parts, "every="+s.every.String())
	}
	return strings.Join(parts, ",")
}
