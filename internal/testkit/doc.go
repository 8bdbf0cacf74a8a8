// Package testkit is what the tests of this module stand on: real servers,
// a proxy that misbehaves on demand, and a server in memory for synctest
// bubbles.
//
//	s := testkit.Start(t, testkit.Redis)       // a redis-server of its own
//	p := testkit.NewProxy(t, s.Addr)           // between the client and s
//	p.Silence(true)                            // a black hole, from now on
//
//	f := testkit.NewFake()                     // inside a synctest bubble
//	d, err := driver.New(driver.Config{Dial: f.Dial})
//
// # Which of them
//
// Timing belongs on [Fake]: its connections ([MemConn]) block only on
// sync.Cond and on timers made in the bubble, so time stands still until the
// code under test has nothing left to do. What depends on the kernel (resets,
// frozen processes, TLS) belongs on [Server] and [Proxy]. [ByteFault] spoils
// one byte offset of any connection, for tests that try all of them.
// What depends on who is whose master belongs on [Cluster], [Sentinels] and
// [Ring], which take seconds to start.
//
// # Concurrency
//
// [Waits] and [Works] have tests run beside each other, as many as the machine bears.
//
// Everything may be used by several goroutines at once. Every goroutine that
// is started here is waited for: by the test's cleanup, by Close, or, for a
// [Fake], when the client closes its connections.
package testkit
