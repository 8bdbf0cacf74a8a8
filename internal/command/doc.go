// Package command is the command table: what a connection pool, and the hooks
// that watch it, must know of a Redis command.
//
//	f := command.Inspect(buf, spans, total)
//	if f.Class == command.Shareable {
//		// may ride a connection with other callers' requests
//	}
//
// The table (table.go) is generated: from what Redis and Valkey answer to
// COMMAND, a list by hand of what go-redis speaks and they don't, and the rules
// of the pool about classes and effects, all in the generator. An [Info] says
// what holds for every form of its command and so errs on the safe side: SET is
// [Unsafe], since it has an option that reads. [Inspect] looks at the arguments
// and improves on that where they prove it: SET k v is [Idempotent].
//
// # Concurrency
//
// The table is never written after initialisation; everything here may be
// called from any goroutine.
//
// # Cost
//
// Lookup and Inspect don't allocate. One map lookup for a plain command, two
// for a container command such as CLIENT SETNAME.
//
// # Limits
//
// A command that isn't in the table, a module of one's own for example, is
// classified as one that changes its connection for ever and must never be sent
// twice. Who knows better (the server's COMMAND INFO) may decide otherwise.
package command

//go:generate go run ./gen
