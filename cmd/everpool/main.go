// Everpool helps those who run programs that use the library.
//
//	go run ./cmd/everpool doctor redis://user:password@host:6379/0   # look at a server, step by step
//	go run ./cmd/everpool help                                       # all commands
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	logging.Disable()            // go-redis reports each failed dial of its own
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

const usage = `usage: everpool command [arguments]

The commands are:

  doctor   look at what a Redis URL is the address of, step by step, and say what to do
  help     say this

"everpool doctor -h" has more.
`

// run is the program. It returns the exit status.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) == 0 {
		tell(errs, "%s", usage)
		return exitUsage
	}
	switch args[0] {
	case "doctor":
		return runDoctor(ctx, args[1:], out, errs)
	case "help", "-h", "-help", "--help":
		tell(out, "%s", usage)
		return exitOK
	}
	tell(errs, "everpool: the command is unknown; allowed are doctor and help\n\n%s", usage)
	return exitUsage
}

// tell writes what the user is told. Where that can't be written there is nobody to tell.
func tell(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
