package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheLibrarysLicencesArePermissive(t *testing.T) {
	var out bytes.Buffer
	if err := run(&out, "../.."); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, module := range []string{"github.com/everpool/everpool ", "github.com/redis/go-redis/v9 ", "go.opentelemetry.io/otel "} {
		if !strings.Contains(out.String(), module) {
			t.Errorf("%s isn't in it:\n%s", module, &out)
		}
	}
}

func TestALicenceIsToldByItsText(t *testing.T) {
	text, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	const copyleft = `This Source Code Form is subject to the terms of the Mozilla Public
License, v. 2.0. If a copy of the MPL was not distributed with this
file, You can obtain one at http://mozilla.org/MPL/2.0/.
`
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"LICENSE", string(text), []string{"MIT"}},
		{"COPYING.txt", copyleft, []string{"MPL-2.0"}},
		{"LICENSE.md", "All rights reserved.\n", nil},
		{"README", string(text), nil},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, test.name), []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := licence(dir); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, %v; want %v", test.name, got, err, test.want)
		}
		if got, want := allPermissive(test.want), test.name == "LICENSE"; got != want {
			t.Errorf("%s, %v: permissive %t", test.name, test.want, got)
		}
	}
}
