# `make` lists the targets. They need Go; `make test` also wants redis-server,
# valkey-server and prometheus, and installs them where it may (Debian, root).

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO       ?= go
PKG      ?= ./...
RUN      ?= .
BENCH    ?= .
COUNT    ?= 10
FUZZTIME ?= 20s

# How long each part of `make soak` takes. FUZZTIME there is ten minutes by default, for
# each of six targets: an hour.
CHAOS         ?= 10m
TOPOLOGY_TIME ?= 5m

# The version to come, as CHANGELOG.md has it; the tag makes it the version.
VERSION = v$(shell sed -n 's/^The next version is \([0-9.]*\)\.$$/\1/p' CHANGELOG.md)

# The newest tag that this is built on, to compare the API with; none yet.
LAST_TAG = $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)

MODULE = github.com/everpool/everpool
# Packages that users import.
PUBLIC = driver pooler hooks otelhooks promhooks hotkey debugpage

# Packages whose tests start real servers.
SERVED = ./cmd/everpool/... ./examples/... ./hooks ./hotkey ./internal/acceptance ./internal/command \
	./internal/conformance ./internal/testkit/... ./otelhooks ./promhooks

# The address of the testbench that testbench-prometheus scrapes.
TESTBENCH ?= 127.0.0.1:8360

# Pinned in tools/go.mod, built on first use.
TOOL     := $(GO) tool -modfile=$(CURDIR)/tools/go.mod

# Modules of the repository, this one first.
MODULES  := . $(patsubst %/go.mod,%,$(wildcard bench/go.mod tools/go.mod examples/testbench/browser/go.mod))

# How long one package may take. Those that start servers, internal/acceptance
# above all, need minutes on an idle machine, and several times that on a busy one.
TIMEOUT  ?= 40m

# The whole suite; under CI with the race detector, and without the part of `go vet` that
# tests run by themselves: CI runs all of it.
TESTFLAGS ?= $(if $(CI),-race -vet=off) -timeout $(TIMEOUT)

# with finds the directories of packages whose tests have functions of that name: to build
# the tests of a package takes longer than to look.
with = dirs=$$($(GO) list -f '{{.Dir}}' $(2)) || exit 1; for dir in $$dirs; do if cat $$dir/*_test.go 2>/dev/null | grep -q '^func $(1)'; then echo $$dir; fi; done

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## run the quickstart example
	@echo "make run: an outage of three seconds. The first time it is built: a minute or more."
	@$(GO) run ./examples/quickstart

.PHONY: test
test: servers ## run every test (PKG=./pooler/... for some)
	@echo "make test: every test of $(PKG), those with real servers too. A package may take minutes, internal/acceptance most of them, and says nothing before it has ended."
	@echo "           Less: make test-short (no servers). A closer look: go test -v -run Name ./package"
	$(GO) test $(TESTFLAGS) $(PKG)

.PHONY: test-short
test-short: ## run what needs no server: a minute or less, once it is built (PKG=)
	@echo "make test-short: what needs no server, of $(PKG). The first time it is built: minutes."
	$(GO) test -short -timeout $(TIMEOUT) $(PKG)

.PHONY: integration
integration: servers ## run the tests with real servers (RUN=); without the servers they fail
	@echo "make integration: the packages whose tests start redis-server, valkey-server and prometheus"
	CI=true $(GO) test -timeout $(TIMEOUT) -run '$(RUN)' $(SERVED)

# The tests in which handles are refused, or requests brought to the dial again, where they
# can be: a node that isn't a cluster's goes away, or its session ends, or a connection that
# was kept does. In the others this code isn't reached: where the node serves all the time,
# handles are the same both times, and those of a cluster are never refused. Pipelines leave
# a silent replica by refusing theirs, which can't be there.
NOVETO = Chaos|Histories|ARestartCosts|SurvivesARestart|AfterARestart|MaintNotifications|ServerLoads|ARefusingPort|ALongOutage|Closing|ThatTheServerHasClosed|UsersAtRunTime|AWrongPassword|ANameThatLeads|ASwitchOfSentinels|ADeadReplicaFails|ADeadShard

.PHONY: test-noveto
test-noveto: servers ## run the driver's tests as where handles can't be refused (Windows, Conn, Tx)
	$(GO) test -short -timeout $(TIMEOUT) -tags everpool_noveto ./driver
	$(GO) test -timeout $(TIMEOUT) -tags everpool_noveto -run '$(NOVETO)' ./internal/acceptance

# The race detector allocates by itself, so these tests are skipped with it; hotkey's and
# topk's are too slow for it.
NORACE_PKGS = ./hooks ./otelhooks ./promhooks ./hotkey ./pooler ./driver ./internal/topk
NORACE = Alloc|Memory|Zipf|Significant|Accuracy|ALongOutageFailsFast|WrittenWhileItIsRead

.PHONY: test-norace
test-norace: servers ## run the tests that can't run under the race detector
	$(GO) test -timeout $(TIMEOUT) -run '$(NORACE)' $(NORACE_PKGS) ./internal/acceptance

.PHONY: acceptance
acceptance: servers ## run the driver's tests with real servers (RUN=)
	$(GO) test $(TESTFLAGS) -run '$(RUN)' ./internal/acceptance

.PHONY: run-observability
run-observability: ## run the observability example: spans, metrics, hot keys (Ctrl-C ends it)
	$(GO) run ./examples/observability

.PHONY: testbench
testbench: ## everpool beside the stock pool, live in a browser, while servers fail (ARGS=)
	$(GO) build -o bin/testbench/testbench ./examples/testbench
	@mkdir -p bin/testbench/tmp
	TMPDIR=$(CURDIR)/bin/testbench/tmp bin/testbench/testbench $(ARGS)

.PHONY: testbench-helper
testbench-helper: ## explain the testbench: what it shows, its flags, faults and workloads
	@echo "make testbench                              for five minutes; open the page that it names, Ctrl-C ends it"
	@echo "make testbench ARGS='-duration 30s -report bin/testbench/report.html'   without a browser"
	@echo "make testbench-prometheus                   a Prometheus beside it, in another terminal"
	@echo "make testbench-browser                      test its page in a browser"
	@echo "make testbench-clean                        remove all that these have made: bin/testbench"
	@echo "What it shows, and how its verdict comes about: docs/testbench.md"
	@echo
	@$(GO) run ./examples/testbench -help

.PHONY: testbench-prometheus
testbench-prometheus: ## a Prometheus at 127.0.0.1:9190 beside a running testbench (TESTBENCH=address)
	@command -v prometheus >/dev/null || { echo "prometheus isn't installed (on Debian: sudo make server-setup)" >&2; exit 1; }
	@mkdir -p bin/testbench
	sed -e 's|host.docker.internal:8360|$(TESTBENCH)|' -e 's|/etc/everpool|$(CURDIR)/docs/dashboards|' \
		examples/testbench/monitoring/prometheus.yml >bin/testbench/prometheus.yml
	prometheus --config.file=bin/testbench/prometheus.yml --storage.tsdb.path=bin/testbench/prometheus --web.listen-address=127.0.0.1:9190

.PHONY: testbench-browser
testbench-browser: servers ## test the testbench's page in a browser (chromium)
	cd examples/testbench/browser && $(GO) test -timeout 5m -count 1 ./...

.PHONY: testbench-clean
testbench-clean: ## remove all that the testbench has made
	rm -rf bin/testbench

.PHONY: test-bench
test-bench: servers ## run the tests of the comparison with other clients (bench/)
	cd bench && $(GO) test $(TESTFLAGS) ./...

.PHONY: test-tools
test-tools: ## run the tests of the project's own tools (tools/)
	cd tools && $(GO) vet ./... && $(GO) test $(TESTFLAGS) ./...

.PHONY: race
race: servers ## run the tests with the race detector, in random order (RUN=, COUNT=)
	$(GO) test -race -shuffle=on -timeout $(TIMEOUT) -run '$(RUN)' -count $(if $(filter command%,$(origin COUNT)),$(COUNT),1) $(PKG)

.PHONY: cov
cov: servers ## test coverage of the library, by function and in cover.html
	$(GO) test -timeout $(TIMEOUT) -coverpkg="$$($(GO) list ./... | grep -v -e /examples -e /internal/testkit -e /internal/keyoracle -e /internal/conformance -e /internal/acceptance -e /gen$$ | paste -sd, -)" -coverprofile=cover.out ./...
	$(GO) tool cover -html=cover.out -o cover.html
	$(GO) tool cover -func=cover.out

.PHONY: fuzz
fuzz: ## fuzz each target for FUZZTIME (20s)
	@$(fuzz_each)

.PHONY: goredis-suite
goredis-suite: servers ## run go-redis's own tests over the stock pool and over everpool, and compare (ARGS="--groups topologies")
	tools/goredis-suite $(ARGS)

.PHONY: soak
soak: servers ## what takes hours, before a release (CHAOS=10m, FUZZTIME=10m, TOPOLOGY_TIME=5m)
	@echo "make soak: chaos for $(CHAOS) under the race detector; every server, protocol and way of using connections, and the whole suite as where handles can't be refused; go-redis's own tests, those of clusters, rings and sentinels too; three topologies on two servers for $(TOPOLOGY_TIME) each; fuzzing, each target for $(soak_fuzz)"
	EVERPOOL_CHAOS=$(CHAOS) CI=true $(GO) test -race -count 1 -v -timeout 24h -run Chaos ./internal/acceptance
	EVERPOOL_EVERY_WAY=true CI=true $(GO) test -race -count 1 -timeout 4h -run Conform ./internal/acceptance
	EVERPOOL_EVERY_WAY=true CI=true $(GO) test -race -count 1 -timeout 4h ./internal/conformance
	EVERPOOL_EVERY_WAY=true CI=true $(GO) test -tags everpool_noveto -count 1 -timeout 4h -skip LeaveAReplica ./internal/acceptance
	tools/goredis-suite --race --groups specs,tests,examples,topologies,tls
	@set -e; for server in redis valkey; do for topology in "" -cluster -sentinel; do \
		$(MAKE) --no-print-directory testbench ARGS="-server $$server $$topology -listen 127.0.0.1:0 -duration $(TOPOLOGY_TIME)"; \
	done; done
	$(MAKE) --no-print-directory fuzz FUZZTIME=$(soak_fuzz)

# The twenty seconds of `make fuzz` aren't meant for the soak.
soak_fuzz = $(if $(filter command% environment%,$(origin FUZZTIME)),$(FUZZTIME),10m)

.PHONY: bench
bench: servers ## run benchmarks COUNT times (BENCH=, PKG=), in turn; compare with `make benchstat`
	@# Not -count: that repeats each benchmark before it goes on, and the two
	@# sides of a comparison have to alternate.
	@set -e; for i in $$(seq $(COUNT)); do \
		$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count 1 -timeout 60m $(PKG); \
	done

.PHONY: bench-smoke
bench-smoke: servers ## run every benchmark once, so that none rots
	@set -e; for dir in $(filter-out tools,$(MODULES)); do \
		echo "$$dir: go test -bench . -benchtime 1x"; \
		(cd $$dir && packages=$$($(call with,Benchmark,./...)) && \
			if [ -n "$$packages" ]; then $(GO) test -vet=off -run '^$$' -bench . -benchtime 1x -timeout 10m $$packages; fi); \
	done

.PHONY: bench-peers
bench-peers: servers ## compare with other clients: tables for docs/benchmarks.md (PRESET=quick, ROUNDS=)
	cd bench && $(GO) run ./cmd/peers -format markdown -preset $(or $(PRESET),quick) $(if $(ROUNDS),-rounds $(ROUNDS))

# The measurements of gathering, by name: what `make bench-gathered SET=name` passes to cmd/peers.
GATHERED_SETS = few many net1 net10 cluster script blpop large memory procs2 procs4 procs8
GATHERED_few     = -goroutines 1,2,4,8 -time 300ms
GATHERED_many    = -goroutines 64,512,2048 -time 300ms
GATHERED_net1    = -network 1ms -workloads get-32,mixed-32 -goroutines 8,64,512,2048 -time 500ms
GATHERED_net10   = -network 10ms -workloads get-32,mixed-32 -goroutines 8,64,512,2048 -time 1s
GATHERED_cluster = -cluster 3 -workloads get-32,mixed-32 -goroutines 1,8,64,512,2048 -time 300ms
GATHERED_script  = -beside script -workloads get-32 -goroutines 8,64,512 -time 2s
GATHERED_blpop   = -beside blpop -workloads get-32 -goroutines 8,64 -time 2s
GATHERED_large   = -beside large -workloads get-32 -goroutines 62,510 -time 1s
GATHERED_memory  = -workloads get-32 -goroutines 4096 -time 1s
GATHERED_procs2  = -workloads get-32,mixed-32 -goroutines 1,8,64,512,2048 -time 300ms
GATHERED_procs4  = $(GATHERED_procs2)
GATHERED_procs8  = $(GATHERED_procs2)

.PHONY: bench-gathered
bench-gathered: servers ## measure gathering beside other clients (SET=many, ROUNDS=9; SET=all: all of them)
	@set -e; cd bench; $(GO) build -o ../bin/peers ./cmd/peers; \
	$(foreach s,$(if $(filter all,$(SET)),$(GATHERED_SETS),$(or $(SET),many)),\
	echo "## $(s): $(GATHERED_$(s))"; date; \
	$(if $(filter procs%,$(s)),GOMAXPROCS=$(patsubst procs%,%,$(s))) ../bin/peers -format markdown -preset gathered -rounds $(or $(ROUNDS),9) $(GATHERED_$(s)); )date

.PHONY: benchstat
benchstat: ## compare two outputs of `make bench` (OLD=old.txt NEW=new.txt)
	$(TOOL) benchstat $(OLD) $(NEW)

.PHONY: lint
lint: ## run golangci-lint (the first time builds it: minutes)
	$(TOOL) golangci-lint run ./...
	@set -e; for dir in $(filter-out . tools,$(MODULES)); do \
		echo "$$dir: golangci-lint"; (cd $$dir && $(TOOL) golangci-lint run --config $(CURDIR)/.golangci.yml ./...); \
	done

.PHONY: fmt
fmt: ## format as the linter wants it
	$(TOOL) golangci-lint fmt ./...

.PHONY: vet
vet: ## run go vet in every module of our own code
	@set -e; for dir in $(filter-out tools,$(MODULES)); do echo "$$dir: go vet"; (cd $$dir && $(GO) vet ./...); done

# Where the packages that users import have to build. Where there are sockets of Go's, but
# not Unix's, all has, tests too.
PLATFORMS ?= windows/amd64 darwin/arm64 freebsd/amd64 solaris/amd64 js/wasm linux/386 linux/arm64

.PHONY: platforms
platforms: ## build for other systems (PLATFORMS=)
	@set -e; for platform in $(PLATFORMS); do \
		export GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0; \
		if [ $$GOOS = windows ]; then echo "$$platform: go vet"; $(GO) vet ./...; \
		else echo "$$platform: go build"; $(GO) build $(addprefix ./,$(PUBLIC)); fi; \
	done

.PHONY: tidy-check
tidy-check: ## fail if a go.mod or go.sum isn't tidy
	@set -e; for dir in $(MODULES); do echo "$$dir: go mod tidy -diff"; (cd $$dir && $(GO) mod tidy -diff); done

.PHONY: fix-check
fix-check: ## fail if `go fix` would change anything
	@if $(GO) help fix 2>/dev/null | grep -q -e -diff; then \
		set -e; for dir in $(filter-out tools,$(MODULES)); do echo "$$dir: go fix -diff"; (cd $$dir && $(GO) fix -diff ./...); done; \
	else \
		echo "fix-check: skipped, this go has no 'go fix -diff'"; \
	fi

.PHONY: generate-check
generate-check: servers ## fail if `go generate` would change a file
	@set -e; copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; \
	tar --exclude=./.git -cf - . | tar -xf - -C "$$copy"; \
	(cd "$$copy" && $(GO) generate ./...); \
	diff -r --exclude=.git . "$$copy"

.PHONY: check
check: vet tidy-check fix-check lint test ## what to run before a commit

.PHONY: version
version: ## print the version to come
	@echo $(VERSION)

.PHONY: api-check
api-check: ## compare the exported API with the last tag's (LAST_TAG=)
	@set -e; [ -n "$(LAST_TAG)" ] || { echo "api-check: no tag yet, nothing to compare with"; exit 0; }; \
	old=$$(mktemp -d); trap 'rm -rf "$$old"' EXIT; \
	git archive $(LAST_TAG) | tar -xf - -C "$$old"; \
	for package in $(PUBLIC); do \
		if [ -d "$$old/$$package" ]; then \
			(cd "$$old" && $(TOOL) apidiff -w "$$old/api" $(MODULE)/$$package); \
			$(TOOL) apidiff -incompatible "$$old/api" $(MODULE)/$$package >"$$old/changes"; \
			sed "s|^|$$package: |" "$$old/changes" >>"$$old/all"; \
		else echo "api-check: $$package is new"; fi; \
	done; \
	if [ -s "$$old/all" ]; then echo "api-check: incompatible with $(LAST_TAG):"; cat "$$old/all"; \
		case "$(VERSION)" in v0.*) ;; *) exit 1 ;; esac; \
	else echo "api-check: compatible with $(LAST_TAG)"; fi

.PHONY: licences
licences: ## list the licences of what programs with everpool link; fail on one that isn't permissive
	cd tools && $(GO) run ./licences ..

.PHONY: release-check
release-check: ## what has to hold before a tag
	@[ "$(VERSION)" != v ] || { echo "release-check: CHANGELOG.md has no line 'The next version is X.Y.Z.'" >&2; exit 1; }
	@[ -z "$$(git tag --list $(VERSION))" ] || { echo "release-check: $(VERSION) is a tag already" >&2; exit 1; }
	@echo "release-check: $(VERSION)"
	@# The links and commands of the pages are tests.
	$(MAKE) --no-print-directory vet platforms tidy-check fix-check lint licences api-check generate-check package
	CI=true $(MAKE) --no-print-directory test test-norace test-noveto test-bench test-tools bench-smoke

.PHONY: package
package: ## make bin/package/everpool-VERSION.zip, as the module proxy would, of what is committed
	cd tools && $(GO) run ./package -version $(VERSION) -out ../bin/package ..

.PHONY: server-setup
server-setup: ## install redis-server, valkey-server, prometheus and chromium (Debian, as root)
	sh tools/setup.sh

.PHONY: clean
clean: ## remove what the targets above leave behind
	rm -rf bin cover.out cover.html
	find . -name .git -prune -o -type f \( -name '*.test' -o -name '*.prof' \) -exec rm -f {} +

# servers sees to redis-server, valkey-server and prometheus: there already,
# installed by us, or named in one line. Tests that need a missing one skip, and fail under CI.
.PHONY: servers
servers:
	@if command -v redis-server >/dev/null && command -v valkey-server >/dev/null && command -v promtool >/dev/null; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && sh tools/setup.sh; then :; \
	else echo "For the tests with real servers, install redis-server, valkey-server and prometheus (on Debian: sudo make server-setup); without them they are skipped." >&2; \
	fi

# fuzz_each finds the targets of every package and runs one after the other.
# Until Go 1.27 a clean run may end in "context deadline exceeded" when its time
# is up (go.dev/issue/75804). That alone, without a failing input, isn't a find.
define fuzz_each
set -e; \
log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
packages=$$($(call with,Fuzz,$(PKG))); \
[ -z "$$packages" ] || $(GO) test -vet=off -list '^Fuzz' $$packages >"$$log" || { cat "$$log"; exit 1; }; \
targets=$$(awk '/^Fuzz/ { names = names " " $$1; next } \
	$$1 == "ok" { n = split(names, name, " "); for (i = 1; i <= n; i++) print $$2 ":" name[i] } \
	{ names = "" }' "$$log"); \
[ -n "$$targets" ] || echo "fuzz: no targets in $(PKG)"; \
for target in $$targets; do \
	package=$${target%:*}; name=$${target##*:}; \
	echo "fuzz $$name in $$package for $(FUZZTIME)"; \
	if $(GO) test -vet=off -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$package" >"$$log" 2>&1; then \
		tail -n 3 "$$log"; \
	elif grep -q '^ *context deadline exceeded$$' "$$log" && ! grep -q -e 'Failing input' -e 'panic:' -e '_test\.go:' "$$log"; then \
		tail -n 3 "$$log"; echo "fuzz $$name: its time was up (go.dev/issue/75804), no failing input"; \
	else \
		cat "$$log"; exit 1; \
	fi; \
done
endef
