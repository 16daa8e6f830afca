#!/bin/sh
# Gets what the long tests of the engine for Django need: `make test-django`.
#
#   django.sh FOLDER
#
# FOLDER/suite: Django's own tests, of the version that bindings/python/tests/requirements.txt names. FOLDER/next: the
# root of a Debian 13, with its Python, and the next Django in FOLDER/next/opt/python; only root can make that, and on
# other machines the tests say that they go without. What is there already is left alone.
set -eu
umask 022
mkdir -p "$1"
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
trap 'rm -rf new' EXIT
trap 'exit 1' HUP INT TERM

pip() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps "$@"
}

version=$(sed -n 's/^Django==//p' "$here/../bindings/python/tests/requirements.txt")
if [ "$(cat suite/made-from 2>/dev/null)" != "$version" ]; then
    rm -rf new suite
    pip --no-binary :all: --dest new "Django==$version"
    tar -xzf new/*.tar.gz -C new
    mv new/*/ suite
    echo "$version" >suite/made-from
fi

[ ! -e next/made ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
    echo 'Without root and debootstrap, the tests go without Debian 13.' >&2
    exit 0
fi
rm -rf new next
mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL) $(COMPONENT)' 'Created-By: Packages' |
    sed -n 's/ Debian main$//p' | head -1)
debootstrap --variant=minbase --include=python3,postgresql-client trixie next "$mirror" >debootstrap.log 2>&1 ||
    { tail debootstrap.log >&2; exit 1; }
pip --only-binary=:all: --python-version 3.13 --implementation cp --abi cp313 --abi none \
    --platform manylinux2014_x86_64 --dest new Django==6.1.3 asgiref==3.13.0 sqlparse==0.6.1 psycopg==3.3.9 \
    psycopg-binary==3.3.9 psycopg-pool==3.3.3 typing_extensions==4.16.0
for wheel in new/*.whl; do
    python3 -m zipfile -e "$wheel" next/opt/python
done
echo '127.0.0.1 localhost' >next/etc/hosts
touch next/made
