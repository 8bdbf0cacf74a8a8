// Package bench compares everpool with other clients of Redis and Valkey. The
// command in cmd/peers prints the tables of docs/benchmarks.md:
//
//	go run ./cmd/peers                      # GET of 32 bytes, the closest peers
//	go run ./cmd/peers -preset full         # all clients and workloads: hours
//	go run ./cmd/peers -preset gathered -network 1ms    # or -cluster 3, or -beside script
//	go run ./cmd/peers -clients stock,everpool -workloads mixed-1k -goroutines 64
//
// It is a module of its own so that the peers stay out of the library's go.mod.
//
// # How it measures
//
// One process, one server. Each configuration (a workload and a number of
// goroutines) has several rounds, and in each round every client runs once, for
// the same time, in an order that rotates. A ratio is formed round by round, so
// that what disturbs the machine for seconds disturbs both sides of it. Each run
// has a client of its own, which is warm before it is measured and gone before
// the next.
package bench
