package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The dashboards are what is written here.
func TestTheFilesAreUpToDate(t *testing.T) {
	for name, b := range boards() {
		file, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(file, b.json()) {
			t.Errorf("%s isn't what `go generate ./docs/dashboards/gen` writes", name)
		}
	}
}
