package safeaddr_test

import (
	"strings"
	"testing"

	"github.com/everpool/everpool/internal/safeaddr"
)

// However a login and what follows the host are written, and wherever there is an @
// or a delimiter in them, no part of a secret is shown.
func TestNoPartOfASecretIsShown(t *testing.T) {
	const secret = "s3cr3t"
	// Each has a password in a login, a query or a fragment, with an @ in it or without.
	passwords := []string{secret, secret + "@" + secret, "@" + secret, secret + "/" + secret, "a?" + secret, "a#" + secret, "a/" + secret + "@" + secret, secret + ":" + secret, "12/" + secret, "12?" + secret + "@" + secret}
	tails := []string{
		"", "/0", "/0?db=1", "?password=" + secret, "?password=" + secret + "@" + secret, "/0?a=b&password=" + secret + "@x", "#" + secret, "#" + secret + "@" + secret, "#" + secret + "@y:1", "/" + secret + "@" + secret,
		",password=" + secret + ",ssl=True", ";password=" + secret + "@y:1", " password=" + secret, ",password=" + secret + "=" + secret + "@" + secret,
	}
	for _, scheme := range []string{"", "redis://", "rediss://", "unix://"} {
		for _, login := range []string{"", "u:", ":", "u@", "", "x"} {
			for _, password := range append([]string{"-"}, passwords...) {
				for _, host := range []string{"h:6379", "10.0.0.1:6379", "[::1]:6379", "h"} {
					for _, tail := range tails {
						addr := scheme + host + tail
						if password != "-" {
							addr = scheme + login + password + "@" + host + tail
						}
						if got := safeaddr.Of(addr); strings.Contains(got, secret) {
							t.Errorf("Of(%q) = %q", addr, got)
						}
					}
				}
			}
		}
	}
}

// What can be told for certain is shown.
func TestTheHostIsShownWhereItIsCertain(t *testing.T) {
	for addr, want := range map[string]string{
		"h:1?password=a@b":                     "h:1",
		"h:1#a@b":                              "h:1",
		"redis://h:1/0?password=a@b":           "h:1",
		"redis://u:p@h:1/0?password=a@b":       "h:1",
		"redis://u:p@h:1#a@b@c":                "h:1",
		"redis://[::1]:1?password=a@b":         "[::1]:1",
		"redis://:a/b@h:1?db=1":                "h:1",
		"redis://:a?b@h:1":                     "h:1",
		"redis://u:12?x@h:1":                   "", // u:12 may be a host and a port
		"h:1?password=a@b:2":                   "",
		"redis://u:p@ss/w@h:1":                 "", // ss may be a host
		"redis://:a/b@h:1?password=x@y:2":      "",
		"redis://u:hunter2":                    "",
		"redis://:hunter2":                     "",
		"redis://:hunter2@h:1,redis://:p@h2:1": "",
		"redis://h":                            "h",
		"h:redis":                              "h:redis", // a service's name
		"h:6380,password=a,ssl=True":           "h:6380",
		"h:1;password=a@b":                     "h:1",
		"password=a;host=h:1":                  "",
		"shard a, of two":                      "shard a, of two",
		"/run/a@b.sock":                        "/run/a@b.sock",
	} {
		if got := safeaddr.Of(addr); got != want {
			t.Errorf("Of(%q) = %q; want %q", addr, got, want)
		}
	}
}

func TestWhatMayBeAURLIsNoName(t *testing.T) {
	for name, want := range map[string]bool{
		"orders": false, "orders:1": false, "": false, "a/b": false, "redis://h": true, "user:secret@h": true, "@": true, "://": true,
	} {
		if got := safeaddr.MaybeURL(name); got != want {
			t.Errorf("MaybeURL(%q) = %v", name, got)
		}
	}
}
