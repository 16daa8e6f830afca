#!/usr/bin/env python3
"""Writes the licences of everything that is linked into the library and the command beside pgaad itself.

    licenses.py FILE [--manifest-path PATH]

What that is says cargo, for this machine's kind; the texts come from each crate's source. Equal texts are written once.
A crate without a text is an error. Of Rust's own library, the texts are in the documentation that comes with rustc, in
"share/doc/rust" or wherever RUST_DOC says.
"""

import glob
import html
import json
import os
import re
import subprocess
import sys

FILE = re.compile(r"(un)?licen[cs]e|copying|copyright|notice", re.IGNORECASE)
SOURCE = (".rs", ".c", ".h", ".S", ".py", ".sh", ".toml", ".json", ".html")
# What rustc's own source holds; its licences are told together.
OF_RUST = re.compile(r"alloc|core|std|std_detect|test|unwind|sysroot|proc_macro|panic_\w+|\w+_builtins|rustc_std_\w+")

HEAD = """\
Third-party licences

What is linked into libpgaad and into the command pgaad, each with its licence and the numbers of the texts that follow.
What only the command has is marked by a star. Texts that are equal are given once. pgaad's own licence is in LICENSE.
"""
COMMAND = ("--features", "command")


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return done.stdout if done.returncode == 0 else sys.exit(f"licenses.py: {' '.join(command)} failed")


class Part:
    """Something that is linked: its name and version, its licence, and the texts of that."""

    def __init__(self, name, license, texts, command=False):
        self.name, self.license, self.texts, self.command = name, license, texts, command


def crates(manifest):
    """The crates that cargo links, beside the first, which is ours."""
    cargo = os.environ.get("CARGO", "cargo")

    def tree(*features):
        edges = ("--edges", "normal,no-proc-macro", "--no-dedupe", "--prefix", "none", "--format", "{p}")
        lines = run(cargo, "tree", "--locked", *manifest, *edges, *features).splitlines()[1:]
        return {tuple(line.split(" ")[:2]) for line in lines}

    host = re.search("^host: (.*)$", run(os.environ.get("RUSTC", "rustc"), "-vV"), re.MULTILINE)[1]
    metadata = (*manifest, *COMMAND, "--format-version=1", "--filter-platform", host)
    packages = json.loads(run(cargo, "metadata", "--locked", *metadata))["packages"]
    packages = {(package["name"], "v" + package["version"]): package for package in packages}
    library = tree()
    for key in sorted(library | tree(*COMMAND)):
        package = packages[key]
        texts = list(texts_below(os.path.dirname(package["manifest_path"])))
        license = package["license"] or "see its text"
        yield Part(f"{key[0]} {package['version']}", license, texts, key not in library)


def texts_below(folder):
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if FILE.match(name) and not name.endswith(SOURCE):
                with open(os.path.join(place, name), encoding="utf-8", errors="replace") as file:
                    yield file.read()


def rust():
    """Rust's own library, and the crates in it."""
    rustc = os.environ.get("RUSTC", "rustc")
    root = run(rustc, "--print", "sysroot").strip()
    libraries = run(rustc, "--print", "target-libdir").strip()
    doc = os.environ.get("RUST_DOC", os.path.join(root, "share/doc/rust"))

    def read(name):
        try:
            with open(os.path.join(doc, name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError as error:
            sys.exit(f"licenses.py: {error}: it comes with rustup's rustc; set RUST_DOC if it lies elsewhere")

    def entries(page):
        for entry in page.split("<h3>")[1:]:
            name, version = re.match(r"\W*([\w-]+?)-(\d[^<]*)</h3>", entry).groups()
            license = html.unescape(re.search("<b>License:</b> (.*?)</p>", entry)[1])
            texts = [html.unescape(text) for text in re.findall("<pre>(.*?)</pre>", entry, re.DOTALL)]
            yield name.replace("-", "_"), Part(f"{name} {version}", license, texts)

    page = read("COPYRIGHT-library.html")
    said = page.split('id="in-tree-files">')[1].split("<h2")[0]
    said = html.unescape(re.sub("<[^>]*>", "", said))
    said = "\n".join(line.strip() for line in said.splitlines()[1:] if line.strip())
    licenses = " ".join(re.findall("^License: (.*)$", said, re.MULTILINE))
    names = sorted(set(re.split("[ ()]+", licenses)) - {"AND", "OR", "WITH", ""})
    version = run(rustc, "--version").split()[1]
    texts = [said] + [read(f"licenses/{name}.txt") for name in names]
    yield Part(f"Rust's standard library {version}", "Apache-2.0 OR MIT, but see the first text", texts)

    known, others = dict(entries(page)), []
    found = glob.glob(os.path.join(glob.escape(libraries), "lib*.rlib"))
    inside = {re.match(r"lib(\w+)-", os.path.basename(path))[1] for path in found}
    if not inside:
        sys.exit(f"licenses.py: no libraries in {libraries}")
    for name in sorted(name for name in inside if not OF_RUST.fullmatch(name)):
        part = known.get(name)
        if not part:
            # It is named in the compiler's list alone, which may have it in several versions.
            others = others or list(entries(read("COPYRIGHT.html")))
            all = [other for known_as, other in others if known_as == name]
            part = Part(name, all[-1].license if all else "unknown", sum((other.texts for other in all), []))
        part.name += ", in Rust's standard library"
        yield part


def same(text):
    """Texts that differ in nothing but their blanks are one."""
    return " ".join(text.split())


def main():
    output, manifest = sys.argv[1], sys.argv[2:]
    parts = list(crates(manifest)) + list(rust())
    without = [part.name for part in parts if not any(text.strip() for text in part.texts)]
    if without:
        sys.exit("licenses.py: no licence text comes with " + ", ".join(without))

    texts, places = {}, []
    for part in parts:
        for text in part.texts:
            texts.setdefault(same(text), text)
        numbers = {same(text): number for number, text in enumerate(texts.values(), 1)}
        places.append(list(dict.fromkeys(numbers[same(text)] for text in part.texts)))

    with open(output, "w", encoding="utf-8") as file:
        print(HEAD, file=file)
        for part, place in zip(parts, places):
            star = "*" if part.command else ""
            numbers = ", ".join(map(str, place))
            print(f"{part.name}{star}\n    {part.license}: {numbers}", file=file)
        for number, text in enumerate(texts.values(), 1):
            print(f"\n{'=' * 30} Text {number} {'=' * 30}\n\n{text.rstrip()}", file=file)


main()
