"""Builds the wheel and the source package (PEP 517), with nothing but Python and, for a library, binutils.

PGAAD_LIBRARY names the libpgaad that the wheel is to carry; its tag is that of the C library that this one needs.
Without it, the wheel is pure Python, and uses the library that is installed.
"""

import base64
import csv
import hashlib
import io
import os
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

try:
    import tomllib
except ImportError:  # before Python 3.11
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent
PACKAGES = ["pgaad", "django_database_postgresql_aad_backend"]
MACHINES = {62: "x86_64", 183: "aarch64"}
# The libraries that every Linux of a manylinux tag has.
EVERYWHERE = re.compile(r"(libc|libm|libdl|libpthread|librt|libgcc_s|ld-linux-[a-z0-9-]+)\.so\.\d+")
# Zip files begin in 1980; a fixed time makes the same wheel of the same files.
EPOCH = (1980, 1, 1, 0, 0, 0)


def version():
    text = (ROOT / "pgaad/__init__.py").read_text()
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


def sources():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    return sorted(path for path in files if path.suffix == ".py" or path.name == "py.typed")


def metadata():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {version()}",
        f"Summary: {project['description']}",
        f"Requires-Python: {project['requires-python']}",
        f"License-Expression: {project['license']}",
        *(f"Classifier: {classifier}" for classifier in project["classifiers"]),
    ]
    for extra, requirements in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f"Requires-Dist: {requirement}; extra == '{extra}'" for requirement in requirements]
    lines += ["Description-Content-Type: text/markdown", "", (ROOT / project["readme"]).read_text()]
    return "\n".join(lines)


def platform(library):
    """The tag of the oldest Linux on which this library can be loaded."""
    with open(library, "rb") as file:
        header = file.read(20)
    if header[:4] != b"\x7fELF":
        raise SystemExit(f"{library} is no library")
    readelf = ["readelf", "--wide", "--dynamic", "--version-info", str(library)]
    said = subprocess.run(
        readelf, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
    ).stdout
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", said)
    if strangers := [name for name in needed if not EVERYWHERE.fullmatch(name)]:
        raise SystemExit(f"{library} needs {strangers}, which not every machine has")
    glibc = max((int(major), int(minor)) for major, minor in re.findall(r"\bGLIBC_(\d+)\.(\d+)", said))
    machine = MACHINES[int.from_bytes(header[18:20], "little")]
    return f"manylinux_{glibc[0]}_{glibc[1]}_{machine}"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    library = os.environ.get("PGAAD_LIBRARY")
    tag = f"py3-none-{platform(library) if library else 'any'}"
    name, info = f"pgaad-{version()}-{tag}.whl", f"pgaad-{version()}.dist-info"
    contents = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in sources()}
    if library:
        contents["pgaad/libpgaad.so.0"] = Path(library).read_bytes()
    contents[f"{info}/METADATA"] = metadata().encode()
    pure = "false" if library else "true"
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: pgaad\nRoot-Is-Purelib: {pure}\nTag: {tag}\n".encode()
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    for path, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.writerow([path, f"sha256={digest}", len(content)])
    lines.writerow([f"{info}/RECORD", "", ""])
    contents[f"{info}/RECORD"] = record.getvalue().encode()
    with zipfile.ZipFile(Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in contents.items():
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.external_attr = 0o100755 << 16 if path.endswith(".so.0") else 0o100644 << 16
            wheel.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return name


def build_sdist(sdist_directory, config_settings=None):
    folder = f"pgaad-{version()}"
    with tarfile.open(Path(sdist_directory) / f"{folder}.tar.gz", "w:gz") as archive:
        for path in [*sources(), *(ROOT / name for name in ("pyproject.toml", "README.md", "backend.py"))]:
            archive.add(path, f"{folder}/{path.relative_to(ROOT).as_posix()}")
        about = tarfile.TarInfo(f"{folder}/PKG-INFO")
        content = metadata().encode()
        about.size = len(content)
        archive.addfile(about, io.BytesIO(content))
    return f"{folder}.tar.gz"
