// Command package makes the zip of this module as the module proxy would serve it, of
// what is committed, and proves that the packages in it build with nothing else:
//
//	cd tools && go run ./package -version v0.1.0 -out ../bin/package ..
//
// Beside the zip it writes its hash, as go.sum has it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
)

const path = "github.com/everpool/everpool"

func main() {
	version := flag.String("version", "", "the module's `version`, as v0.1.0")
	out := flag.String("out", "", "the `directory` to write to")
	flag.Parse()
	if flag.NArg() != 1 || *out == "" {
		fmt.Fprintln(os.Stderr, "usage: package -version VERSION -out DIRECTORY REPOSITORY")
		os.Exit(2)
	}
	if err := run(os.Stdout, *version, *out, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, version, dir, repository string) (err error) {
	if err := module.Check(path, version); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "everpool-package-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := filepath.Join(dir, "everpool-"+version+".zip")
	if err := pack(name, version, work, repository); err != nil {
		return err
	}
	hash, err := dirhash.HashZip(name, dirhash.Hash1)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("%s %s %s\n", path, version, hash)
	if err := os.WriteFile(name+".sum", []byte(line), 0o644); err != nil {
		return err
	}
	if err := prove(name, version, work); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: its packages build\n%s", name, line)
	return err
}

// pack writes the zip of what is committed. Nested modules aren't part of a module.
func pack(name, version, work, repository string) (err error) {
	tree, archive := filepath.Join(work, "tree"), filepath.Join(work, "tree.tar")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := command(repository, "git", "archive", "-o", archive, "HEAD"); err != nil {
		return err
	}
	if err := command(tree, "tar", "-xf", archive); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return zip.CreateFromDir(f, module.Version{Path: path, Version: version}, tree)
}

// prove builds what is in the zip.
func prove(name, version, work string) error {
	dir := filepath.Join(work, "unzipped")
	if err := zip.Unzip(dir, module.Version{Path: path, Version: version}, name); err != nil {
		return err
	}
	return command(dir, "go", "build", "./...")
}

func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	// Neither a workspace nor flags of the caller's are in the zip.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
