# Two commands for a fresh machine: `make run` builds and shows the main job, `make test` installs what tests need and
# runs them all. Both ask apt for what is missing; as an ordinary user through sudo.

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
BINARY := target/$(TARGET)/release/sentry
TEST_TOOLS := gcc make git python3 gdb strace redis-server redis-tools nodejs tmux procps util-linux uidmap bubblewrap iproute2 rsync sqlite3 attr acl golang-go default-jdk-headless chromium-headless-shell fonts-dejavu-core podman runc crun busybox-static

# What only `make hold-oci` needs besides: engines that want a daemon, networks, and a client of containerd's CRI service.
OCI_TOOLS := podman runc crun busybox-static uidmap conmon containerd buildah docker.io slirp4netns passt catatonit containernetworking-plugins tmux debootstrap python3-grpcio python3-yaml

BENCH := target/$(TARGET)/release/sentry-bench
# What Debian has of the sandboxes to compare with, and of the programs that run inside; docs/benchmarks.md tells how to get the rest.
BENCH_TOOLS := bubblewrap firejail proot strace podman crun uidmap runsc gcc git python3 tar sqlite3 redis-server redis-tools sysbench
# As root, the sandboxes are started by an ordinary user all the same.
BENCH_USER := $(shell [ "$$(id -u)" != 0 ] || echo --user sentry-test)

.PHONY: run build install test test-deps bench bench-containers bench-build bench-quick bench-deps docs deps lint hold-cpython hold-debian hold-bench hold-oci test-ptrace

run: build
	$(BINARY) run -- sh -c 'echo "I am $$(id -un) on $$(hostname), and this is all I see:"; ls /'

build: deps
	cargo build --release --package sentry
	ln -sf $(TARGET)/release/sentry target/sentry
	ln -sf $(TARGET)/release/sentry target/sentry-oci

# libseccomp's headers and static library.
deps:
	@[ -e /usr/include/seccomp.h ] || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends libseccomp-dev; }

# The benchmarks go along if they were built.
install: build
	$(SUDO) install -m 755 $(BINARY) /usr/local/bin/sentry
	$(SUDO) ln -sf sentry /usr/local/bin/sentry-oci
	[ ! -e $(BENCH) ] || $(SUDO) install -m 755 $(BENCH) /usr/local/bin/sentry-bench
	[ ! -e $(BENCH) ] || $(SUDO) install -D -m 755 $(dir $(BENCH))micro /usr/local/libexec/sentry/micro

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

# Does the benchmark's compare find 5 us planted into one handler, and nothing in two runs of one binary? Takes minutes.
hold-bench: build
	cargo build --release --package sentry-benches
	cargo build --release --package sentry-tests --bin sentry-delay
	benches/planted.sh $(dir $(BINARY))

# The container runtime under podman, buildah, containerd, docker and Kubernetes' CRI, as the ordinary user and as root. Takes
# root and minutes; each script says what it tries, and takes any other runtime's path to hold it against.
hold-oci: build
	@missing=; for package in $(OCI_TOOLS); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	[ -z "$$missing" ] || { $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; }
	@if [ "$$(id -u)" = 0 ]; then id sentry-test >/dev/null 2>&1 || useradd -m sentry-test; fi
	tests/oci/podman.sh target/sentry-oci --long
	$(SUDO) tests/oci/podman.sh target/sentry-oci --as-root
	$(SUDO) tests/oci/containerd.sh target/sentry-oci
	tests/oci/containerd.sh target/sentry-oci --rootless
	$(SUDO) tests/oci/docker.sh target/sentry-oci
	$(SUDO) tests/oci/kubernetes.sh target/sentry-oci
	cargo build --package sentry --package sentry-tests --bins
	$(SUDO) tests/oci/conformance.sh target/$(TARGET)/debug target/conformance.md
	$(SUDO) tests/oci/breakouts.sh target/$(TARGET)/debug target/breakouts.md

lint:
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings

# What `sentry bench` runs; it needs no network, nor does measuring.
bench-build: build
	cargo build --release --package sentry-benches
	@if [ "$$(id -u)" = 0 ]; then id sentry-test >/dev/null 2>&1 || useradd -m sentry-test; fi

# Two minutes each: the mechanisms of the kernel, and the sandboxes that are here; and a page about both.
bench-quick: bench-build
	$(BINARY) bench mechanisms --quick --json target/bench/mechanisms.jsonl
	$(BINARY) bench peers --quick $(BENCH_USER) --json target/bench/peers.jsonl
	$(BINARY) bench report target/bench/mechanisms.jsonl target/bench/peers.jsonl --html target/bench/report.html

# Up to forty minutes; the tables of the documents are made anew from it. On a quiet machine.
RESULTS := benches/results/mechanisms.jsonl benches/results/peers.jsonl
bench: bench-build
	$(BINARY) bench mechanisms --json benches/results/mechanisms.jsonl
	$(BINARY) bench peers $(BENCH_USER) --json benches/results/peers.jsonl
	$(BINARY) bench report $(RESULTS) --html benches/results/report.html
	for page in README.md docs/performance.md docs/benchmarks.md docs/mechanisms.md; do $(BINARY) bench readme $$page $(RESULTS) || exit 1; done

# Container runtimes, rootless and as root; started by root, or rootless only. Where control groups of both versions are mounted,
# all get a mount namespace with an empty tree of version 2, for crun refuses to start otherwise.
VERSION_2 := $(shell [ ! -d /sys/fs/cgroup/unified ] || [ "$$(id -u)" != 0 ] || echo 'unshare --mount sh -c "mount -t cgroup2 none /sys/fs/cgroup && exec \"\$$@\"" sh')
AS_USER := $(shell [ "$$(id -u)" != 0 ] || echo 'setpriv --reuid=sentry-test --regid=sentry-test --clear-groups env -i HOME=/home/sentry-test PATH=/usr/local/bin:/usr/bin:/bin')
CONTAINERS := benches/results/containers.jsonl benches/results/containers-root.jsonl
bench-containers: bench-build
	place=$$(mktemp -d /tmp/sentry-bench-XXXXXX) && chmod 777 $$place && cp $(BINARY) $(BENCH) $(dir $(BENCH))micro $$place && \
	$(VERSION_2) $(AS_USER) $$place/sentry-bench containers --json $$place/rootless.jsonl && \
	cp $$place/rootless.jsonl benches/results/containers.jsonl && \
	if [ "$$(id -u)" = 0 ]; then $(VERSION_2) $$place/sentry-bench containers --question run --question exec --question memory \
	  --json benches/results/containers-root.jsonl; fi && rm -rf $$place
	$(BINARY) bench readme docs/performance.md $(RESULTS) $(CONTAINERS)

# Other sandboxes and programs, as far as Debian has them. Nothing fails without them.
bench-deps: deps
	@$(SUDO) apt-get update -q; for package in $(BENCH_TOOLS); do \
	  dpkg -s $$package >/dev/null 2>&1 || $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$package \
	    || echo "$$package cannot be installed here; it will be missing in the tables, and said to be"; done

# Rewrites the generated page of syscalls and the help snapshot.
docs:
	UPDATE_DOCS=1 cargo test --package syscalls --lib page
	UPDATE_DOCS=1 cargo test --package sentry --lib the_help_is
