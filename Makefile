# Two commands for a fresh machine: `make run` builds and shows the main job, `make test` installs what tests need and
# runs them all. Both ask apt for what is missing; as an ordinary user through sudo.

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
BINARY := target/$(TARGET)/release/sentry
TEST_TOOLS := gcc make git python3 gdb strace redis-server redis-tools nodejs tmux procps util-linux uidmap bubblewrap iproute2 rsync sqlite3 attr acl golang-go default-jdk-headless

.PHONY: run build install test test-ptrace test-deps bench docs deps lint hold-cpython hold-debian

run: build
	$(BINARY) run -- sh -c 'echo "I am $$(id -un) on $$(hostname), and this is all I see:"; ls /'

build: deps
	cargo build --release --package sentry
	ln -sf $(TARGET)/release/sentry target/sentry

# libseccomp's headers and static library.
deps:
	@[ -e /usr/include/seccomp.h ] || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends libseccomp-dev; }

install: build
	$(SUDO) install -m 755 $(BINARY) /usr/local/bin/sentry

test-deps: deps
	@missing=; for package in $(TEST_TOOLS); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then $(SUDO) apt-get update -q; \
	  for package in $$missing; do \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$package \
	      || echo "$$package cannot be installed here; the tests that need it will be skipped, and say so"; \
	  done; fi
	@command -v npm >/dev/null || $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends npm \
	  || echo "npm cannot be installed here; the test that needs it will be skipped, and says so"
	@if [ "$$(id -u)" = 0 ]; then id sentry-test >/dev/null 2>&1 || useradd -m sentry-test; fi

# The product and the programs that attack it are built first: tests start them as an ordinary user.
test: test-deps
	cargo build --workspace --all-targets
	cargo test --workspace

# All of them once more, with a tracer in the place of the listener (docs/platforms.md).
test-ptrace: test-deps
	cargo build --workspace --all-targets
	SENTRY_TEST_PLATFORM=ptrace cargo test --package sentry-tests

# CPython's own tests about files and processes: what fails in a sandbox that does not fail natively. Takes minutes.
hold-cpython: build
	@dpkg -s libpython3.11-testsuite >/dev/null 2>&1 || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends libpython3.11-testsuite; }
	tests/cpython.sh $(BINARY)

# A Debian system made and used under --fake-root by an ordinary user. Takes a network and minutes.
hold-debian: build
	@command -v debootstrap >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends debootstrap; }
	tests/debian.sh $(BINARY)

lint:
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: build
	cargo build --release --package sentry-benches
	cargo run --release --package sentry-benches --bin sentry-bench -- --sentry $(BINARY)
	cargo run --release --package sentry-benches --bin sentry-bench -- readme README.md benches/results/latest.json
	cargo run --release --package sentry-benches --bin sentry-bench -- readme docs/performance.md benches/results/latest.json

# Rewrites the generated page of syscalls and the help snapshot.
docs:
	UPDATE_DOCS=1 cargo test --package syscalls --lib page
	UPDATE_DOCS=1 cargo test --package sentry --lib the_help_is
