#!/bin/sh
# Makes a bare Debian 12 for the tests that install our packages in it: `make test-long`.
#
#   debian.sh FOLDER
#
# FOLDER/debian.tar then holds it, with the packages that those tests need beside ours in its apt's cache, so that they
# need no network. All of it comes from the mirror that this machine uses. What is there already is left alone.
set -eu
umask 022
mkdir -p "$1"
cd "$1"
rm -rf run-* # of a test that was killed
[ ! -e debian.tar ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo 'Only root can make a Debian to try our packages in: the tests that need it will fail.' >&2
    exit 0
fi
here=$(mktemp -d -p "$PWD")
trap 'rm -rf "$here"' EXIT
trap 'exit 1' HUP INT TERM

mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL) $(COMPONENT)' 'Created-By: Packages' |
    sed -n 's/ Debian main$//p' | head -1)
eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
[ -z "${http_proxy:-}" ] || export http_proxy
# What is mounted meanwhile is gone with the process.
unshare --mount sh -eus "$here/root" "$mirror" <<'END'
root=$1
debootstrap --variant=minbase bookworm "$root" "$2"
apt() {
    chroot "$root" apt-get -qq -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none "$@"
}
apt clean
apt update
apt install --download-only -y gcc libc6-dev pkg-config libpq-dev postgresql-client ca-certificates
END
rm -f "$here/root/etc/resolv.conf"
echo '127.0.0.1 localhost' >"$here/root/etc/hosts"
tar -C "$here/root" --numeric-owner -cf "$here/debian.tar" .
mv "$here/debian.tar" debian.tar
