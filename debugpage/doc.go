// Package debugpage shows what everpool's pools are doing, as a page for people and as
// JSON: nodes and since when they are in their state, their slots, sockets by use, what waits,
// what is under way on each shared connection, what has happened last, counters with their
// rates, the settings in force, and above all that, in plain words, what is wrong.
//
//	mux.Handle("/debug/everpool", debugpage.Handler(debugpage.Source{Name: "shop", Nodes: d}))
//
// # Concurrency
//
// Everything is safe for concurrent use, if the sources are. Nothing runs between
// requests.
//
// # Failure
//
// The handler asks no server, so that it answers in an outage too. What a source does
// wrong, a panic included, is among what the page says is wrong.
//
// # Cost
//
// A request takes a snapshot of each pool, under the pool's lock, and for a moment that of
// each shared connection. Between requests two snapshots are kept, for the rates: no more
// than twice what Nodes returns.
//
// # Limits
//
// There is no authentication: the page has no credentials, but addresses, names and, if
// asked for, hot keys. Serve it where they may be seen. Rates are of the time between two
// requests, whoever makes them, and of a second at least: with several readers they are of
// the time since any of them has last looked.
package debugpage
