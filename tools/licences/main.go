// Command licences lists the licences of the modules that programs link when they use
// everpool, and fails for one that isn't permissive or isn't found:
//
//	cd tools && go run ./licences ..
//
// What only tests, examples, bench and tools need isn't among them.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// permissive are the licences that ask for no more than to be named.
var permissive = []string{"MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "ISC"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: licences DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// run prints a line for each module that the packages of the module in dir link.
func run(out io.Writer, dir string) error {
	modules, err := linked(dir)
	if err != nil {
		return err
	}
	var refused []string
	for _, m := range modules {
		path, root, _ := strings.Cut(m, "\t")
		found, err := licence(root)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Fprintf(out, "%-60s %s\n", path, strings.Join(found, ", "))
		if !allPermissive(found) {
			refused = append(refused, path)
		}
	}
	if len(refused) > 0 {
		return fmt.Errorf("none of %s was found alone for: %s", strings.Join(permissive, ", "), strings.Join(refused, ", "))
	}
	return nil
}

func allPermissive(ids []string) bool {
	return len(ids) > 0 && !slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(permissive, id) })
}

// linked returns the modules behind the library's packages, each with its directory.
func linked(dir string) ([]string, error) {
	packages := []string{"driver", "pooler", "hooks", "otelhooks", "promhooks", "hotkey", "debugpage", "cmd/everpool"}
	args := []string{"list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}"}
	for _, p := range packages {
		args = append(args, "./"+p)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	modules := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
	slices.Sort(modules)
	return slices.Compact(modules), nil
}

// licence returns the identifiers of the licences in a module's root.
func licence(root string) (ids []string, err error) {
	for _, glob := range []string{"LICENSE*", "LICENCE*", "COPYING*"} {
		files, err := filepath.Glob(filepath.Join(root, glob))
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			for _, m := range licensecheck.Scan(text).Match {
				ids = append(ids, m.ID)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
