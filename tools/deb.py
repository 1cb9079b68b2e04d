"""Builds a Debian package: `make deb`, into build/knockgate_VERSION_ARCHITECTURE.deb.

    python -m tools.deb [FOLDER]

One package does for Debian 12 and 13 and Ubuntu 24.04. In /usr/lib/knockgate lies our package beside those of
requirements/deb.txt, since the distributions' cryptography is too old. What is bound to one Python is left to
them: cffi's backend is theirs, and byte code is made on the host, so that an upgrade of the distribution does
not take the gate away. The same tree gives the same bytes; SOURCE_DATE_EPOCH is the date of everything in it,
and without it the newest commit's.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import knockgate
from knockgate.cli import unitfiles
from tools.manpages import pages

__all__ = ["build", "contents", "control", "debian_version", "fetch", "oldest_glibc", "oldest_python"]

REPO = Path(__file__).resolve().parent.parent
PARTS = REPO / "packaging" / "deb"
REQUIREMENTS = REPO / "requirements" / "deb.txt"
SCRIPTS = ("postinst", "prerm", "postrm")
DOC = "/usr/share/doc/knockgate"
#: Debian's architecture -> that of wheels.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: What wheels may ask of glibc: Debian 12 has 2.36.
_GLIBC = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
_PYTHON = (3, 11)
#: Which of a wheel's papers go along: whoever looks for old versions on a host finds them by these.
_PAPERS = ("METADATA", "WHEEL", "licenses", "sboms")
_COMPLETION = {
    "bash": "/usr/share/bash-completion/completions/knockgate",
    "zsh": "/usr/share/zsh/vendor-completions/_knockgate",
    "fish": "/usr/share/fish/vendor_completions.d/knockgate.fish",
}
_MAINTAINER = "knockgate's maintainers", "maintainers@knockgate.invalid"
_DESCRIPTION = """gate that hides services until the right knock arrives
 Guards ports in nftables and opens them to whoever has knocked: with one sealed
 packet signed by an SSH key, a packet of fwknop's, or a sequence of ports that
 the kernel follows by itself. What hears knocks, what changes the firewall and
 what opens files of keys are users of their own, and none of them is root.
 .
 The same program knocks. After the installation nothing is guarded and nothing
 runs: see knockgate-init(1)."""


# --- what it needs ------------------------------------------------------------------------------------


def fetch(folder: Path, architecture: str) -> Path:
    """The packages of requirements/deb.txt in that folder; what is there already is taken as it is."""
    machine = MACHINES.get(architecture)
    if machine is None:
        sys.exit(f"deb: no wheels are pinned for {architecture}, only for {', '.join(MACHINES)}")
    wanted = hashlib.sha256(f"{architecture} {REQUIREMENTS.read_text()}".encode()).hexdigest()
    stamp = folder / ".stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    # For the oldest Python and glibc, whichever this host has: it is to run on all of them.
    version = ".".join(map(str, _PYTHON))
    target = ["--target", str(folder), "--implementation", "cp", "--python-version", version, "--abi", "abi3"]
    platforms = [word for each in _GLIBC for word in ("--platform", f"{each}_{machine}")]
    pinned = ["--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", str(REQUIREMENTS)]
    quiet = ["--disable-pip-version-check", "--no-input", "-q", "--no-user", "--no-compile"]
    pip = [sys.executable, "-I", "-m", "pip", "install", *quiet]
    subprocess.run([*pip, *target, *platforms, *pinned], check=True)
    stamp.write_text(wanted)
    return folder


def oldest_python(libraries: Path) -> tuple[int, int]:
    """With which Python, and all after it, the wheels run; SystemExit where one is bound to a single one."""
    oldest = _PYTHON
    for paper in sorted(libraries.glob("*.dist-info/WHEEL")):
        tags = re.findall(r"^Tag: (\S+?)-(\S+?)-", paper.read_text(), re.MULTILINE)
        minors = [_minor(python, abi) for python, abi in tags]
        usable = [minor for minor in minors if minor is not None]
        if not usable:
            sys.exit(f"deb: {paper.parent.name} is for one version of Python alone")
        oldest = max(oldest, (3, min(usable)))
    return oldest


def _minor(python: str, abi: str) -> int | None:
    if abi == "none" and re.fullmatch(r"(py2\.)?py3", python):
        return 0
    found = re.fullmatch(r"cp3(\d+)", python)
    return int(found[1]) if found and abi == "abi3" else None


def oldest_glibc(libraries: Path) -> tuple[int, int]:
    """The newest version of glibc's symbols that a library among them names."""
    found = [(2, 17)]
    for library in libraries.rglob("*.so"):
        found += [(2, int(minor)) for minor in re.findall(rb"\0GLIBC_2\.(\d+)", library.read_bytes())]
    return max(found)


# --- what is in it ------------------------------------------------------------------------------------


def contents(libraries: Path, epoch: int) -> dict[str, bytes]:
    """Path on the host -> what is in that file; ``epoch`` is the pages' date, in seconds since 1970."""
    files = {}
    for package in (REPO / "src" / "knockgate", *sorted(libraries.iterdir())):
        for path in [package, *package.rglob("*")]:
            inner = path.relative_to(package.parent)
            if path.is_file() and _goes_along(inner):
                files[f"{unitfiles.PACKAGED}/{inner}"] = path.read_bytes()
    program = unitfiles.elsewhere(unitfiles.PACKAGED)
    units = unitfiles.render(program, unitfiles.PACKAGED_UNITS)
    files |= {path: text.encode() for path, text in units.items()}
    files["/usr/bin/knockgate"] = (PARTS / "launcher").read_bytes()
    files["/usr/share/python3/runtime.d/knockgate.rtupdate"] = (PARTS / "rtupdate").read_bytes()
    files["/usr/share/lintian/overrides/knockgate"] = (PARTS / "lintian-overrides").read_bytes()
    date = datetime.fromtimestamp(epoch, UTC)
    for name, page in pages(f"{date:%Y-%m-%d}"):
        if not name.startswith("knockdemo"):
            files[f"/usr/share/man/man{name[-1]}/{name}.gz"] = _compressed(page)
    files |= {path: _completion(shell) for shell, path in _COMPLETION.items()}
    files[f"{DOC}/copyright"] = (PARTS / "copyright").read_bytes()
    files[f"{DOC}/CHANGELOG.md.gz"] = _compressed((REPO / "CHANGELOG.md").read_text())
    files[f"{DOC}/changelog.gz"] = _compressed(
        f"knockgate ({debian_version()}) unstable; urgency=medium\n\n"
        f"  * What is new for users is in CHANGELOG.md.gz.\n\n -- {_maintainer()}  {format_datetime(date)}\n"
    )
    for example in sorted((REPO / "examples").rglob("*")):
        inner = example.relative_to(REPO)
        if example.is_file() and _goes_along(inner):
            files[f"{DOC}/{inner}"] = example.read_bytes()
    return files


def _goes_along(path: Path) -> bool:
    """Of what pip lays down beside packages, such as programs and pages of manuals, nothing does."""
    if path.parts[0].endswith(".dist-info"):
        return path.parts[1] in _PAPERS
    hidden = any(part == "__pycache__" or part.startswith(".") for part in path.parts)
    return path.parts[0] not in ("bin", "share") and not hidden


def _compressed(text: str) -> bytes:
    return gzip.compress(text.encode(), 9, mtime=0)


def _completion(shell: str) -> bytes:
    command = [sys.executable, "-m", "knockgate", "completion", shell]
    environment = {**os.environ, "PYTHONPATH": str(REPO / "src")}
    return subprocess.run(command, check=True, capture_output=True, env=environment).stdout


# --- what dpkg reads ----------------------------------------------------------------------------------


def debian_version() -> str:
    """Ours, with what comes before a release sorted before it: 0.2.0rc1 is 0.2.0~rc1."""
    return re.sub(r"\.?(a|b|rc|dev)(?=\d)", r"~\1", knockgate.__version__)


def _maintainer() -> str:
    name, address = os.environ.get("DEBFULLNAME"), os.environ.get("DEBEMAIL")
    return f"{name or _MAINTAINER[0]} <{address or _MAINTAINER[1]}>"


def control(libraries: Path, architecture: str, size: int) -> str:
    """The file of that name; ``size`` in KiB."""
    python, glibc = (".".join(map(str, each)) for each in (oldest_python(libraries), oldest_glibc(libraries)))
    needs = [
        f"libc6 (>= {glibc})",
        "libgcc-s1",
        "libnftables1 (>= 1.0.6)",
        "nftables (>= 1.0.6)",
        f"python3 (>= {python})",
        # That cryptography's one compiled module loads; the distribution's fits its own Python.
        "python3-cffi-backend (>= 1.15)",
        "systemd (>= 252)",
    ]
    fields = {
        "Package": "knockgate",
        "Version": debian_version(),
        "Architecture": architecture,
        "Maintainer": _maintainer(),
        "Installed-Size": str(size),
        "Depends": ", ".join(needs),
        "Recommends": "tzdata",
        "Suggests": "conntrack, openssh-client",
        "Section": "net",
        "Priority": "optional",
        "Description": _DESCRIPTION,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


# --- laid out and packed ------------------------------------------------------------------------------


def build(libraries: Path, folder: Path, architecture: str, epoch: int) -> Path:
    """Make the package in ``folder``, with what ``fetch`` made in ``libraries``; SystemExit where dpkg fails.

    ``architecture`` is Debian's word for it, ``epoch`` the date of everything in it, in seconds since 1970.
    """
    files = contents(libraries, epoch)
    sums = "".join(f"{hashlib.md5(text).hexdigest()}  {path[1:]}\n" for path, text in sorted(files.items()))  # noqa: S324 - dpkg's own
    size = sum((len(text) + 1023) // 1024 for text in files.values()) + len(
        {Path(path).parent for path in files}
    )
    papers = {f"/DEBIAN/{name}": (PARTS / name).read_bytes() for name in SCRIPTS}
    papers["/DEBIAN/control"] = control(libraries, architecture, size).encode()
    papers["/DEBIAN/md5sums"] = sums.encode()
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / f"knockgate_{debian_version()}_{architecture}.deb"
    with tempfile.TemporaryDirectory(dir=folder, prefix="deb-") as name:
        tree = Path(name, "tree")
        _lay_out(tree, files | papers, epoch)
        # One thread: with more, the bytes would depend on how many there are.
        pack = ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", str(tree)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
        done = subprocess.run(
            [*pack, f"{name}/deb"], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"deb: {done.stderr.strip()}")
        Path(name, "deb").rename(package)
    return package


def _lay_out(tree: Path, files: Mapping[str, bytes], epoch: int) -> None:
    for path, text in files.items():
        file = tree / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
        is_program = path.startswith("/usr/bin/") or path.endswith(".rtupdate") or file.name in SCRIPTS
        file.chmod(0o755 if is_program else 0o644)
    for each in [*tree.rglob("*"), tree]:
        if each.is_dir():
            each.chmod(0o755)
        os.utime(each, (epoch, epoch))


def _epoch() -> int:
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    git = ["git", "-C", str(REPO), "log", "-1", "--format=%ct"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout.strip():
        return int(done.stdout)
    return int((REPO / "CHANGELOG.md").stat().st_mtime)


def main() -> None:
    """Say where the package is."""
    parser = argparse.ArgumentParser(prog="tools.deb", description="Build a Debian package.")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=REPO / "build", help="where to (default: build)"
    )
    folder: Path = parser.parse_args().folder
    if not Path(knockgate.__file__).is_relative_to(REPO):
        sys.exit(f"deb: {knockgate.__file__} is not of this checkout")
    began = time.monotonic()
    asked = ["dpkg", "--print-architecture"]
    architecture = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    package = build(fetch(folder / "deb-libraries", architecture), folder, architecture, _epoch())
    print(f"{package}: {package.stat().st_size / 1e6:.1f} MB, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
