// Package acceptance tests the driver against real servers: Redis and Valkey that
// are killed, frozen, paused, silenced, made to load and given other passwords
// while callers are at work, and that the driver reaches through proxies which
// cut, slice, delay and forge.
//
// The tests assert counts, orders and what callers are told. How long things took
// is logged, beside the stock client's figures where a test has two sides:
//
//	go test -v -run Restart ./internal/acceptance
//
// The whole package takes minutes: make acceptance. It needs redis-server and
// valkey-server; without them the tests are skipped, and fail under CI, and under
// -short. EVERPOOL_CHAOS lengthens the chaos, as `make soak` does before a release:
//
//	EVERPOOL_CHAOS=10m go test -run Chaos -timeout 40m ./internal/acceptance
//
// EVERPOOL_EVERY_WAY=true runs the conformance suite in all combinations of servers,
// protocols and ways of using connections, in place of those that cover them.
//
// Tests of the driver that need no server are in its own package.
package acceptance
