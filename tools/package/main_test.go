package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The zip has the library and neither nested modules nor what isn't committed.
func TestTheZipIsTheModule(t *testing.T) {
	work, name := t.TempDir(), filepath.Join(t.TempDir(), "m.zip")
	if err := pack(name, "v0.1.0", work, "../.."); err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files := make(map[string]bool)
	for _, f := range z.File {
		name, ours := strings.CutPrefix(f.Name, path+"@v0.1.0/")
		if !ours {
			t.Errorf("%s", f.Name)
		}
		files[name] = true
		if strings.HasPrefix(name, "bench/") || strings.HasPrefix(name, "tools/") && strings.HasSuffix(name, ".go") {
			t.Errorf("%s is of another module", name)
		}
	}
	for _, want := range []string{"go.mod", "LICENSE", "README.md", "driver/driver.go", "pooler/pool.go"} {
		if !files[want] {
			t.Errorf("%s isn't in it", want)
		}
	}
}

func TestAVersionThatIsNoneIsRefused(t *testing.T) {
	for _, version := range []string{"", "0.1.0", "v2.0.0", "latest"} {
		dir := filepath.Join(t.TempDir(), "out")
		if err := run(new(bytes.Buffer), version, dir, "../.."); err == nil {
			t.Errorf("%q is no version of %s", version, path)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q: something was written", version)
		}
	}
}
