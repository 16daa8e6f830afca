#!/bin/sh
# Puts what `make` built in its place, or takes all of it away again: `make install`, `make uninstall`.
#
#   install.sh install|uninstall
#
# Where to is said by variables: those below, and DESTDIR, which stands before each of them. OUT is the folder that was
# built in, VERSION the version. What is put there is recorded, and that record is what is taken away.
set -eu
umask 022
cd "$(dirname "$0")/.."

: "${DESTDIR:=}" "${PREFIX:=/usr/local}"
: "${BINDIR:=$PREFIX/bin}" "${LIBDIR:=$PREFIX/lib}" "${INCLUDEDIR:=$PREFIX/include}" "${DATADIR:=$PREFIX/share}"
: "${MANDIR:=$DATADIR/man}" "${DOCDIR:=$DATADIR/doc/pgaad}" "${EXAMPLESDIR:=$DOCDIR/examples}"
: "${PKGCONFIGDIR:=$LIBDIR/pkgconfig}" "${CMAKEDIR:=$LIBDIR/cmake/pgaad}"
: "${BASHCOMPDIR:=$DATADIR/bash-completion/completions}" "${ZSHCOMPDIR:=$DATADIR/zsh/site-functions}"
: "${FISHCOMPDIR:=$DATADIR/fish/vendor_completions.d}"
SONAME=libpgaad.so.${VERSION%%.*}
RECORD=$DOCDIR/installed

# Everything there is, each with its place.
everything() {
    put 755 "$OUT/libpgaad.so" "$LIBDIR/libpgaad.so.$VERSION"
    link "libpgaad.so.$VERSION" "$LIBDIR/$SONAME"
    link "$SONAME" "$LIBDIR/libpgaad.so"
    put 644 "$OUT/libpgaad.a" "$LIBDIR/libpgaad.a"
    for header in include/*; do
        put 644 "$header" "$INCLUDEDIR/${header##*/}"
    done
    fill_in packaging/pgaad.pc.in "$PKGCONFIGDIR/pgaad.pc"
    fill_in packaging/pgaad-config.cmake.in "$CMAKEDIR/pgaad-config.cmake"
    fill_in packaging/pgaad-config-version.cmake.in "$CMAKEDIR/pgaad-config-version.cmake"

    put 755 "$OUT/pgaad" "$BINDIR/pgaad"
    put 644 "$OUT/completion/bash" "$BASHCOMPDIR/pgaad"
    put 644 "$OUT/completion/zsh" "$ZSHCOMPDIR/_pgaad"
    put 644 "$OUT/completion/fish" "$FISHCOMPDIR/pgaad.fish"

    for page in man/man?/*; do
        section=${page%/*}
        put 644 "$page" "$MANDIR/${section##*/}/${page##*/}"
    done
    for text in README.md CHANGELOG.md SECURITY.md LICENSE LICENSE-APACHE LICENSE-MIT docs/*; do
        put 644 "$text" "$DOCDIR/$text"
    done
    put 644 "$OUT/third-party-licenses.txt" "$DOCDIR/third-party-licenses.txt"
    # The one in Rust is built with this source beside it.
    for example in examples/*.* examples/lua/* examples/node/* examples/perl/* examples/php/* examples/ruby/*; do
        put 644 "$example" "$EXAMPLESDIR/${example#examples/}"
    done
}

# Makes a folder and those above it, and records the ones that were not there.
folder() {
    [ ! -d "$DESTDIR$1" ] || return 0
    folder "$(dirname "$1")"
    mkdir "$DESTDIR$1"
    record "$1/"
}

put() {
    folder "$(dirname "$3")"
    install -m "$1" "$2" "$DESTDIR$3"
    record "$3"
}

link() {
    folder "$(dirname "$2")"
    ln -sfn "$1" "$DESTDIR$2"
    record "$2"
}

# A template, with what stands between @ replaced.
fill_in() {
    folder "$(dirname "$2")"
    text=$(sed -e "s|@PREFIX@|$(plain "$PREFIX")|; s|@VERSION@|$VERSION|; s|@MAJOR@|${VERSION%%.*}|; s|@SONAME@|$SONAME|" \
        -e "s|@LIBDIR@|$(below_prefix "$LIBDIR")|; s|@INCLUDEDIR@|$(below_prefix "$INCLUDEDIR")|" \
        -e "s|@LIBDIR_FROM_HERE@|$(from_cmake "$LIBDIR")|; s|@INCLUDEDIR_FROM_HERE@|$(from_cmake "$INCLUDEDIR")|" \
        "$1")
    printf '%s\n' "$text" | install -m 644 /dev/stdin "$DESTDIR$2"
    record "$2"
}

# What sed puts in as it is.
plain() {
    printf %s "$1" | sed 's/[\\&|]/\\&/g'
}

below_prefix() {
    case $1 in
        "$PREFIX"/*) printf '${prefix}/%s' "$(plain "${1#"$PREFIX/"}")" ;;
        *) plain "$1" ;;
    esac
}

from_cmake() {
    plain "$(realpath --canonicalize-missing --no-symlinks --relative-to="$CMAKEDIR" "$1")"
}

# One path a line, a folder's with a slash at its end, each after the folder that it is in.
recorded=
record() {
    recorded="$recorded$1
"
}

# Kept when the installation fails as well, beside what an earlier one put there.
write_record() {
    record "$RECORD"
    printf '%s\n%s' "$before" "$recorded" | awk 'NF && !seen[$0]++' >"$DESTDIR$RECORD"
}

# Removes paths, read from the last to the first; folders if nothing is in them.
remove() {
    tac | while IFS= read -r path; do
        case $path in
            */) rmdir "$DESTDIR$path" 2>/dev/null || : ;;
            *) rm -f "$DESTDIR$path" ;;
        esac
    done
}

for place in "$BINDIR" "$LIBDIR" "$INCLUDEDIR" "$DATADIR" "$MANDIR" "$DOCDIR"; do
    case $place in
        /*) ;;
        *) echo "$place is no absolute path" >&2 && exit 1 ;;
    esac
done

before=
[ ! -e "$DESTDIR$RECORD" ] || before=$(cat "$DESTDIR$RECORD")

case $1 in
    install)
        [ -e "$OUT/libpgaad.so" ] || { echo 'Nothing is built yet: run make first' >&2; exit 1; }
        mkdir -p "$DESTDIR/"
        folder "$DOCDIR"
        trap write_record EXIT
        trap 'exit 1' HUP INT TERM
        everything
        ;;
    uninstall)
        [ -n "$before" ] || { echo "Nothing is installed: there is no $DESTDIR$RECORD" >&2; exit 0; }
        printf '%s\n' "$before" | remove
        ;;
esac
