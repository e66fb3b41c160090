# make test   all that must hold before a change lands, in about a quarter of an hour on 2 cores
# make deps   what the tests need of Debian, where it may be installed
# make bench  how fast, against others, in the same run
# make fuzz   each fuzz target for FUZZTIME
# make mutants  removes each guard in turn; the test named for it must go red
# make packages  the .deb and .rpm packages, into dist/
# make lint   gofmt, vet, staticcheck

GO       ?= go
FUZZTIME ?= 30s
# Tests that need a tool skip where it is missing, with the command that
# installs it; in the full run they fail instead.
export DRYDOCK_TEST_FULL ?= $(if $(filter 0,$(shell id -u)),1,)

# A race build sleeps for a second at the end of each process, and the tests
# start thousands; what their last moment could show, the tests wait for.
export GORACE ?= atexit_sleep_ms=0

.PHONY: test deps bench fuzz mutants lint build packages clean

build:
	$(GO) build -o bin/ ./cmd/...

packages:
	@rm -rf dist
	@.packaging/build dist

# Many tests wait for something real, so more of a package run at once than
# there are cores. What vet has to say, lint has said.
# The language and the rules of trust are pure, and the detector takes four
# times as long over what has no goroutines to race.
PLAIN = ./spec ./reconcile/trust

test: deps lint
	$(GO) run ./testdata/fullrun -vet=off -timeout 20m $(PLAIN)
	$(GO) test -vet=off -run '^TestAnUnpackerThatFillsMemory$$' ./hostagent/archive
	$(GO) run ./testdata/fullrun -race -vet=off -parallel 4 -timeout 20m \
	  $$($(GO) list ./... ./testdata/rig ./testdata/attacks | grep -vxFe "$$($(GO) list $(PLAIN))")

DEBIAN = git-daemon-sysvinit strace e2fsprogs util-linux procps zip zstd \
	systemd-container dbus debootstrap haproxy nginx-light postgresql mariadb-server rpm groff-base bash openssh-client gnupg python3
deps:
	@testdata/deps $(DEBIAN)
	@if [ "$$(id -u)" = 0 ] && [ -x /usr/sbin/debootstrap ]; then testdata/rig/base >/dev/null; fi

lint:
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./... ./testdata/rig ./testdata/attacks
	$(GO) tool staticcheck ./... ./testdata/rig ./testdata/attacks

bench:
	testdata/bench/run

fuzz:
	testdata/fuzz-all $(FUZZTIME)

mutants:
	$(GO) run ./testdata/mutants

clean:
	rm -rf bin dist
