package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestASchedulesFaultsComeInOrderAndAgain(t *testing.T) {
	s, err := parseSchedule("reset@12s, kill@8s+500ms, freeze@10s,every=20s")
	if err != nil {
		t.Fatal(err)
	}
	type due struct {
		Kind       faultKind
		At, Length time.Duration
	}
	var got []due
	for n := range 4 {
		f, at, ok := s.nth(n)
		if !ok {
			t.Fatalf("there is no fault %d", n)
		}
		got = append(got, due{f.kind, at, f.length})
	}
	want := []due{
		{faultKill, 8 * time.Second, 500 * time.Millisecond},
		{faultFreeze, 10 * time.Second, 2 * time.Second}, // its usual length
		{faultReset, 12 * time.Second, 0},
		{faultKill, 28 * time.Second, 500 * time.Millisecond},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if again, err := parseSchedule(s.String()); err != nil || again.String() != s.String() {
		t.Errorf("%s is read as %s (%v)", s, again, err)
	}
}

func TestAScheduleWithoutEveryEnds(t *testing.T) {
	s, err := parseSchedule("reset@1s,silence@2s")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := s.nth(1); !ok {
		t.Error("the second fault is missing")
	}
	if f, at, ok := s.nth(2); ok {
		t.Errorf("there is a third one: %v at %s", f, at)
	}
	none, err := parseSchedule("none")
	if _, _, ok := none.nth(0); ok || err != nil || none.String() != "none" {
		t.Errorf("none has a fault, or %v", err)
	}
}

func TestTheDefaultSchedulesAreAllowed(t *testing.T) {
	for _, text := range []string{defaultFaults, topologyFaults} {
		if _, err := parseSchedule(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAWrongScheduleIsExplained(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", `fault ""; allowed are kill, freeze, reset, silence, slow, failover`},
		{"kil@8s", `"kil@8s": fault "kil"; allowed are kill,`},
		{"kill", `"kill": when? As in kill@10s`},
		{"kill@soon", `start "soon"; allowed is a duration from 0`},
		{"kill@-1s", `start "-1s"; allowed is a duration from 0`},
		{"kill@1s+0s", `length "0s"; allowed is a duration above 0, at most 1m0s`},
		{"kill@1s+2m", `length "2m"; allowed is a duration above 0, at most 1m0s`},
		{"reset@1s+1s", `length "1s"; a reset is over at once`},
		{"kill@1s+2s,reset@2s", "reset@2s begins before the fault before it ends, at 3s"},
		{"kill@1s+2s,every=3s", "every=3s: the round's last fault ends at 3s; allowed is more than that"},
		{"every=3s", "no fault in it; allowed are faults as in"},
		{"reset@1s,every=often", `"every=often": allowed is a duration above 0`},
		{"kil@8s,kill", `"kill": when?`}, // with the other one
	} {
		_, err := parseSchedule(test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.text, err, test.want)
		}
	}
}
