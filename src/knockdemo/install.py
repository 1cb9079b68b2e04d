"""``knockdemo install`` and ``knockdemo uninstall``: lanes A, B and C on this host, and off it again.

Installing lays files down and starts nothing; the tutorial's own commands do that, and are printed.
All questions are asked before the first change, and a change that fails takes back those before it.
With ``--root`` another tree is filled: nothing outside of it is touched and no command is run.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path

import knockgate
from knockdemo import preflight, removal
from knockdemo.ledger import STATE, Change, Ledger
from knockdemo.manifest import Manifest
from knockdemo.terminal import say
from knockdemo.units import (
    CLIENT_KEYS,
    CLIENT_PROGRAM,
    GUARDS,
    INSTANCES,
    SCRIPT,
    WINDOW,
    File,
    Plan,
    exec_start,
    fresh_plan,
    keys_in,
    render,
)
from knockgate.config.toml import several
from knockgate.errors import ConfigError, Unavailable

__all__ = [
    "File",
    "Plan",
    "add_install_arguments",
    "add_uninstall_arguments",
    "exec_start",
    "fresh_plan",
    "install",
    "render",
    "uninstall",
]

PROGRAM = "knockdemo"
PACKAGES = "/usr/lib/python3/dist-packages"
_DEBIAN_FWKNOP = "fwknop-server.service"
#: Files of Debian's packages that make room for ours; any other file in the way is the user's.
_REPLACEABLE = ("/etc/knockd.conf", "/etc/fwknop/access.conf", "/etc/fwknop/fwknopd.conf")
#: Which units have to be restarted when a path that contains the text has changed.
_READERS = (
    ("/knockdemo/knockdemo.toml", ("knock-demo",)),
    (PACKAGES, ("knock-demo", *INSTANCES)),
    ("secret-service", INSTANCES),
    ("/knock-demo.service", ("knock-demo",)),
    ("/demo-firewall-base", ("demo-firewall-base",)),
    ("/knockd.", ("knockd",)),
    ("/fwknop", ("fwknopd",)),
)


def add_install_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``install``."""
    parser.add_argument(
        "--interface", metavar="IF", help="where knocks arrive (default: that of the default route)"
    )
    parser.add_argument(
        "--window", metavar="SECONDS", type=int, help=f"how long a door stays open (whole, default: {WINDOW})"
    )
    parser.add_argument("--root", metavar="DIR", help="install into this tree instead of the running host")
    parser.add_argument("--new-keys", action="store_true", help="replace the fwknop keys made before")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_uninstall_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``uninstall``."""
    parser.add_argument("--root", metavar="DIR", help="uninstall from this tree instead of the running host")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def install(args: argparse.Namespace) -> int:
    """Lay everything down, or change what differs; returns 0, raises KnockgateError with nothing changed."""
    ledger = _ledger(args.root)
    live = ledger.root == Path("/")
    if live and not args.dry_run:
        preflight.require_root()
    old = ledger.manifest()
    plan = _plan(args, ledger, old, live=live)
    files = _files(plan, ledger, old)
    changes = ledger.changes(files, old)
    _refuse_files_in_the_way(changes, ledger)
    facts: dict[str, object] = {"interface": plan.interface, "window": plan.window}
    steps = []
    if live:
        preflight.require_programs()
        preflight.require_free_ports()
        if old is None and os.geteuid() == 0:  # only a dry run comes here without
            preflight.refuse_strangers()
            units = {unit: preflight.unit_state(unit) for unit in (_DEBIAN_FWKNOP, "knockd.service")}
            facts |= {"tables": preflight.nft_tables(), "units": units}
            facts["sysv_off"] = removal.sysv_off("knockd")
        if preflight.unit_state(_DEBIAN_FWKNOP) == "enabled":
            say(PROGRAM, f"disabling {_DEBIAN_FWKNOP}: it and our fwknopd.service would both start at boot")
            steps.append((lambda: removal.disable(_DEBIAN_FWKNOP), lambda: removal.enable(_DEBIAN_FWKNOP)))
    if not args.dry_run:
        changes = ledger.lay_down(files, old, facts, steps)
    _report(args, plan, changes, ledger, old)
    return 0


def uninstall(args: argparse.Namespace) -> int:
    """Take up everything that ``install`` and the mechanisms left; returns 0, also when there is nothing."""
    ledger = _ledger(args.root)
    live = ledger.root == Path("/")
    if live and not args.dry_run:
        preflight.require_root()
    manifest = ledger.manifest()
    if manifest is None:
        if not args.dry_run:
            ledger.forget()
        print("nothing is installed")
        return 0
    if args.dry_run:
        _list(ledger.removals(manifest), "would ")
        return 0
    enabled_before = [unit for unit, state in manifest.facts.get("units", {}).items() if state == "enabled"]
    if live:
        removal.stop_units(keep_enabled=enabled_before)
        script = Path(__file__).parent / "units" / Path(SCRIPT).name
        removal.remove_rules(script, manifest.facts.get("tables", []))
        removal.remove_replay_cache()
    try:
        changes = ledger.take_up(manifest)
    except OSError as error:
        raise Unavailable(
            str(error), hint="mend that and run it again: it goes on where it stopped"
        ) from error
    if live:
        removal.reload_units()
        if manifest.facts.get("sysv_off"):
            removal.sysv_disable("knockd")
        if _DEBIAN_FWKNOP in enabled_before:
            removal.enable(_DEBIAN_FWKNOP)
    _tell_kept(changes)
    counts = {action: sum(change.action == action for change in changes) for action in ("remove", "restore")}
    print(f"removed {_files_text(counts['remove'])}, put back {_files_text(counts['restore'])}")
    return 0


def _ledger(root: str | None) -> Ledger:
    path = Path(root or "/").resolve()
    if not path.is_dir():
        raise ConfigError(f"there is no directory {path}", key="--root")
    return Ledger(path)


def _plan(args: argparse.Namespace, ledger: Ledger, old: Manifest | None, *, live: bool) -> Plan:
    """What was asked for, else what an earlier run used, else the defaults; and that run's keys."""
    before = old.facts if old else {}
    interface = args.interface or before.get("interface")
    if not interface:
        if not live:
            raise ConfigError("--root needs --interface", hint="the interface of the host the tree is for")
        interface = preflight.default_interface()
    if live:
        preflight.require_interface(interface)
    plan = fresh_plan(interface, args.window if args.window is not None else before.get("window", WINDOW))
    keys_file = ledger.at(CLIENT_KEYS)
    keys = None
    if old and CLIENT_KEYS in old.files and keys_file.is_file():
        keys = keys_in(keys_file.read_text(encoding="utf-8", errors="replace"))
        if keys is None:
            say(PROGRAM, f"{CLIENT_KEYS} holds no usable keys any more, so there will be fresh ones")
    return Plan(plan.interface, plan.window, *keys) if keys and not args.new_keys else plan


def _files(plan: Plan, ledger: Ledger, old: Manifest | None) -> Mapping[str, File]:
    """Everything that is to stand; package files that are there already and just like ours are left alone."""
    files = render(plan)
    sources = {"knockdemo": Path(__file__).parent, "knockgate": Path(knockgate.__file__).parent}
    for package, source in sources.items():
        for path in sorted(source.rglob("*")):
            if path.is_dir() or "__pycache__" in path.parts:
                continue
            target = f"{PACKAGES}/{package}/{path.relative_to(source)}"
            here, content = ledger.at(target), path.read_bytes()
            theirs = not (old and target in old.files) and here.is_file() and here.read_bytes() == content
            if not theirs:
                files[target] = File(0o644, content)
    return files


def _refuse_files_in_the_way(changes: list[Change], ledger: Ledger) -> None:
    replaced = [change.path for change in changes if change.action == "replace"]
    strangers = [path for path in replaced if path not in _REPLACEABLE]
    if strangers:
        raise Unavailable(
            f"{several(map(ledger.at, strangers), 1)} is in the way, and not from this installer",
            hint="move it away, or remove it if it is an older copy of the demonstration",
        )


def _report(
    args: argparse.Namespace, plan: Plan, changes: list[Change], ledger: Ledger, old: Manifest | None
) -> None:
    live = ledger.root == Path("/")
    address = preflight.address_of(plan.interface) if live else None
    following = [
        "systemctl daemon-reload",
        f"systemctl enable --now {' '.join(GUARDS)}",
        f"systemctl enable --now {' '.join(INSTANCES)}",
    ]
    stale = _readers(changes) if old else []
    if stale:
        following.append(f"systemctl try-restart {' '.join(stale)}")
    if args.json:
        print(
            json.dumps(
                {
                    "format": 1,
                    "root": str(ledger.root),
                    "dry_run": args.dry_run,
                    "interface": plan.interface,
                    "address": address,
                    "window_s": plan.window,
                    "changes": [{"action": change.action, "path": change.path} for change in changes],
                    "next": following,
                    "carry": [CLIENT_PROGRAM, CLIENT_KEYS],
                }
            )
        )
        return
    if live and address is None:
        say(PROGRAM, f"{plan.interface} has no address: knockd is deaf until it has one and is restarted")
    _tell(args, changes, old)
    host = address or "HOST"
    print(f"\nlanes listen on {plan.interface}, address {host}; doors stay open for {plan.window} s")
    print("\nnext, as root:")
    for command in following:
        print(f"  {command}")
    print(
        f"\ncarry to the machine that knocks (the second is a secret, keep it at mode 0600):\n"
        f"  {CLIENT_PROGRAM}\n  {CLIENT_KEYS}\n\nand there:\n"
        f"  python3 knock-client.py {host}\n"
        f"  python3 knock-client.py {host} 7100 7200 7300\n"
        f"  fwknop --rc-file client.fwknoprc -n knockdemo --no-save-args -a ITS-OWN-ADDRESS -D {host}\n"
        f"\nor, with both packages there as well, all of it at once: python3 -m knockdemo tour {host}\n"
        f"\nall of it goes away with: python3 -m knockdemo uninstall"
    )


def _readers(changes: list[Change]) -> list[str]:
    """The units that have read, at their start, something that has changed since."""
    touched = {
        unit for change in changes for text, units in _READERS if text in change.path for unit in units
    }
    return [unit for unit in (*GUARDS, *INSTANCES) if unit in touched]


def _tell(args: argparse.Namespace, changes: list[Change], old: Manifest | None) -> None:
    if args.dry_run:
        _list(changes, "would ")
    elif old is None:
        replaced = [change.path for change in changes if change.action == "replace"]
        print(f"created {_files_text(len(changes) - len(replaced))}")
        for path in replaced:
            print(f"replaced {path} (the original is kept in {STATE}/saved)")
    else:
        _list(changes, "")
    if not changes:
        print("everything is in place already; nothing changed")
    _tell_kept(changes)
    if old and any(change.path == CLIENT_KEYS for change in changes):
        print(f"the keys may have changed: carry {CLIENT_KEYS} to the clients again")


def _tell_kept(changes: list[Change]) -> None:
    for change in changes:
        if change.kept:
            say(PROGRAM, f"{change.path} had been edited; that version is now {change.kept}")


def _list(changes: list[Change], prefix: str) -> None:
    words = {"edited": "replace, keeping the edited version of,"}
    in_packages: dict[str, int] = {}
    for change in changes:
        line = f"{prefix}{words.get(change.action, change.action)} "
        if change.path.startswith(f"{PACKAGES}/") and not change.kept:
            package = change.path.removeprefix(f"{PACKAGES}/").partition("/")[0]
            where = f"{line}{PACKAGES}/{package}"
            in_packages[where] = in_packages.get(where, 0) + 1
        else:
            print(f"{line}{change.path}")
    for where, number in in_packages.items():
        print(f"{where} ({_files_text(number)})")


def _files_text(number: int) -> str:
    return f"{number} file{'' if number == 1 else 's'}"
