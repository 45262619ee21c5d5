# The commands of this repository; `make` lists them. On Debian 12 they need make and a Rust toolchain, nothing more.

CARGO ?= cargo
# Folder of the binaries. `cargo run -p` would select other features than `build --workspace` and compile most crates again.
BUILT := $(or $(CARGO_TARGET_DIR),target)/debug
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
# `make build WEB=skip` leaves out the pages, for machines that cannot reach an npm registry.
WEB ?= build

.PHONY: help setup web build test demo up chaos upgrade scale bench bench-short bench-build abuse networks fuzz simulate screenshots plots docs ci fmt deny deploy-check release clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: Debian packages, and .tools with meson, nats-server and others
	@deploy/setup/setup.sh

web: setup ## Build the browser library and the pages
	@ws-edge/web/run.sh build

build: setup ## Build every binary (the first time with mediasoup's C++ worker, about 6 minutes)
ifneq ($(WEB),skip)
	@$(MAKE) web
endif
	$(CARGO) build --workspace --bins

test: build ## Run every test; the ones that start services use the binaries of `build`
ifneq ($(WEB),skip)
	@deploy/setup/npm.sh examples deploy/examples/typescript
endif
	$(CARGO) test --workspace
ifneq ($(WEB),skip)
	@ws-edge/web/run.sh test
endif

demo: build ## Play a whole call through the real services, and show what happened
	$(BUILT)/demo

# All of them are optional; `target/debug/chaos --help` has more.
CHAOS := $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) $(if $(DURATION),--duration $(DURATION)) \
	$(if $(CALLS),--calls $(CALLS))

chaos: build ## Inject faults under load and check the bill; SEED=, RUNS=, DURATION= (seconds), CALLS=
	$(BUILT)/chaos $(CHAOS)

upgrade: build ## Scale and restart every process under live calls, none of which may end; CALLS=
	$(BUILT)/chaos --upgrade --calls $(or $(CALLS),100)

# The timer is measured as it is deployed; the rest of the workspace has no release build, which would compile the C++ worker again.
scale: build ## Kill a billing-timer with many calls and check it, then read them all; CALLS=10000,30000,100000 RUNS=3
	$(CARGO) build --release -p billing-timer
	$(BUILT)/scale --billing-timer $(dir $(BUILT))release/billing-timer $(if $(CALLS),--calls $(CALLS)) $(if $(RUNS),--runs $(RUNS))
	$(BUILT)/scale --observers $(if $(CALLS),--calls $(CALLS))

bench-build: build
	@deploy/setup/npm.sh peers tests/peers
	$(CARGO) build --workspace --bins --example bare_relay
	$(CARGO) build --release -p billing-timer -p ws-edge

bench: bench-build ## Measure the services beside their peers; `make bench-NAME` for one of them; REPEATS=5; ADD=1 adds to earlier repeats
	$(BUILT)/bench $(if $(REPEATS),--repeats $(REPEATS)) $(if $(ADD),--add)

bench-short: bench-build ## The same within 5 minutes, without media and growth
	$(BUILT)/bench --short

bench-%: bench-build
	$(BUILT)/bench $* $(if $(REPEATS),--repeats $(REPEATS)) $(if $(ADD),--add)

abuse: build ## Misuse a release build of ws-edge beside 500 clients in calls: half-open sockets, clients that do not read, a storm of reconnects
	$(CARGO) build --release -p billing-timer -p ws-edge
	$(BUILT)/abuse --edge $(dir $(BUILT))release/ws-edge

networks: build ## Change the networks of a caller between namespaces, as root, and judge the times; TRIES=20 for percentiles, ROW=1 to 5 for one change
	NETWORKS_TRIES=$(or $(TRIES),1) $(if $(ROW),NETWORKS_ROW=$(ROW)) $(CARGO) test --workspace --test networks -- --nocapture --test-threads=1 $(if $(ROW),changes_of_network)

# One target after another: each measures the memory of its process.
fuzz: build ## Give each reader of foreign input mutated input for SECONDS=600
	FUZZ_SECONDS=$(or $(SECONDS),600) $(CARGO) test --workspace --test fuzz -- --nocapture --test-threads=1

up: build ## Run the whole stack until Ctrl-C, with links to call from a browser
	$(BUILT)/up

simulate: setup ## Billing against a simulated server, from SEEDS=10000 seeds; SEED=7 shows one
	SEED="$(SEED)" SEEDS="$(or $(SEEDS),10000)" FIRST="$(FIRST)" $(CARGO) test -q --workspace --test simulation

screenshots: build ## Take the pictures of the documents again, in about 3 minutes
	$(CARGO) test --workspace --test browser -- --ignored screenshots

plots: build ## Play the demo, and draw the way of its calls from the metrics
	rm -rf .run/metrics
	DEMO_METRICS=.run/metrics $(BUILT)/demo
	docs/plots/call_way.py .run/metrics >docs/src/images/call-way.svg

docs: setup ## Build the book: docs/book/index.html
	@deploy/setup/mdbook.sh
	.tools/bin/mdbook build docs

ci: setup ## What CI runs: format, licences, documents, deployment, lints, tests, demo
	$(CARGO) fmt --all --check
	$(MAKE) deny
	$(MAKE) docs
	$(MAKE) deploy-check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@ws-edge/web/run.sh check
	@if [ "$(WEB)" != skip ] && command -v chromium >/dev/null; then export CI_REQUIRE_BROWSER=1; fi; $(MAKE) test
	$(MAKE) demo

deny: setup ## Check the dependencies' licences and sources (deny.toml)
	PATH="$(CURDIR)/.tools/bin:$$PATH" cargo-deny --locked check licenses bans sources

release: deploy-check web ## Build the release: target/dist/*.tar.gz, in about 11 minutes
	@deploy/release/release.sh

deploy-check: setup ## Check units, containers, manifests, alerts and dashboard with the tools of their formats
	@deploy/check/check.sh

fmt: ## Format the code
	$(CARGO) fmt --all

clean: ## Remove everything built, .tools too
	$(CARGO) clean
	rm -rf .tools .run docs/book deploy/check/asyncapi/node_modules ws-edge/web/node_modules ws-edge/web/client/dist
	git clean -fdXq ws-edge/web/dist
