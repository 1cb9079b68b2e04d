"""``knockgate device``: which devices have knocked, and what the admin says of them."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from typing import Any

import click

from knockgate.cli.gatefiles import GateFiles, as_json_option, config_option
from knockgate.cli.page import Page, PageGroup
from knockgate.cli.phrases import columns, time_in_words
from knockgate.cli.terminal import advise, say, tell
from knockgate.config.toml import shown
from knockgate.errors import ConfigError, KnockgateError, Unavailable

__all__ = ["device"]

#: Digits that are enough to name a device, where they name one alone.
_FEWEST, _ALL = 6, 32


@click.group("device", cls=PageGroup, no_args_is_help=False)
def device() -> None:
    """List the devices that have knocked; enrol them, and shut them out.

    A device is one person's account on one machine. A gate tells it apart by 16 random bytes that an SSH
    agent never sees. With devices = "known" below [doors.NAME.sealed] a door opens to those alone that were
    enrolled: whoever gets at somebody's agent cannot knock from elsewhere.
    """


@device.command("list", cls=Page)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@config_option
def list_(*, as_json: bool, config: str | None) -> int:
    """List the devices that have knocked, and those that the admin has spoken of.

    DEVICE is what the other commands take; six of its digits do, if no other begins with them. SSH KEY is
    the one that it has knocked with, as `ssh-keygen -l` shows it; with two keys it is there twice. LAST KNOCK
    is the newest date that was taken, by the device's clock; `refused` where a gate that runs has turned all
    of them away, so that it remembers none. STATE is known, barred, or - where nothing was said. Asks the
    gate that runs, or else looks into its store. Changes nothing, and needs root.

    With --json, `device` and `fingerprint` are DEVICE and SSH KEY as here; `row` is `device` by another
    name, and `key` the fingerprint in hex.

    Exit status: 0; 2 it cannot be found out.

    For example:

        knockgate device list
        knockgate device list --json | jq -r '.devices[] | select(.state == null) | .device'
    """
    files = GateFiles.of(config)
    seen, said = _seen(files, tells=True), _said(files)
    found = [{**each, **said.get(each["row"], _NOTHING)} for each in seen]
    # Those of whom the store knows nothing: enrolled beforehand, or from before a change of keys.
    never = {"key": None, "era": None, "issued": None, "seconds_ago": None, "remembered": False}
    others = said.keys() - {each["row"] for each in seen}
    found += [{"row": row, **never, **said[row]} for row in sorted(others)]
    if as_json:
        told = [{"device": each["row"], "fingerprint": _fingerprint(each), **each} for each in found]
        click.echo(json.dumps({"devices": told}))
        return 0
    if not found:
        say("no device has knocked so far")
        return 0
    rows = [("DEVICE", "STATE", "LAST KNOCK", "SSH KEY", "NAME")]
    rows += [
        (each["row"], each["state"] or "-", _when(each), _fingerprint(each) or "-", each["name"] or "")
        for each in found
    ]
    click.echo(columns(rows))
    return 0


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    with contextlib.suppress(KnockgateError):
        rows = _rows(GateFiles.of(ctx.params.get("config")))
        return [row for row in rows if row.startswith(incomplete.lower())]
    return []


_device_argument = click.argument("row", metavar="DEVICE", shell_complete=_complete)


@device.command("enrol", cls=Page)
@_device_argument
@click.option("--name", default="", help="What to call it, for people.")
@as_json_option
@config_option
def enrol(row: str, *, name: str, as_json: bool, config: str | None) -> int:
    """Make a device a known one.

    For doors with devices = "known"; to others it makes no difference, but that a device which was shut out
    is let in again. DEVICE is 32 hex digits, or at least six with which one of `knockgate device list`
    begins. To find out which one it is, have its owner knock, and list again: it is the one of just now, also
    where the door has refused it, as long as the gate is not started again.

    A gate that runs is asked to read its files again, gate.toml among them. Needs root.

    Exit status: 0; 2 there is no such device, or it could not be done.

    For example:

        knockgate device enrol 68db60c5 --name "jo's laptop"
    """
    return _say_of(config, row, "known", name, as_json=as_json)


@device.command("forget", cls=Page)
@_device_argument
@click.option("--name", default="", help="What to call it, for people.")
@as_json_option
@config_option
def forget(row: str, *, name: str, as_json: bool, config: str | None) -> int:
    """Shut a device out, for good.

    It comes in nowhere from now on, whatever SSH key it knocks with, until it is enrolled again. What the
    gate has of it is not forgotten, on the contrary: without the mark of its newest knock, each knock of it
    that somebody has recorded could open once more. It keeps its place among the devices of its key.

    The same person's other devices go on knocking. To shut out a person, take the line out of the
    authorized_keys. Leases run to their ends (`knockgate close` ends them). A device that loses what it is
    called by is another device: to keep out who has the SSH key as well, enrol the others and say devices =
    "known".

    A gate that runs is asked to read its files again, gate.toml among them. Needs root.

    Exit status: 0; 2 there is no such device, or it could not be done.

    For example:

        knockgate device forget 68db60c5
    """
    return _say_of(config, row, "barred", name, as_json=as_json)


def _say_of(config: str | None, word: str, state: str, name: str, *, as_json: bool) -> int:
    from knockgate.config import devices  # noqa: PLC0415 - see cli

    files = GateFiles.of(config)
    with files.changing():
        row = _one(files, word)
        text = devices.read(files.devices)
        devices.parse(text, str(files.devices))
        edit = devices.enrolled if state == "known" else devices.barred
        text = edit(text, bytes.fromhex(row), name)
        devices.save(files.devices, text)
    called = devices.comments(text).get(bytes.fromhex(row))
    done = f"{row} is known" if state == "known" else f"{row} comes in nowhere from now on"
    files.take_up(f"{row} is {state}")
    tell(json.dumps({"device": row, "state": state, "name": called}) if as_json else done)
    return 0


def _one(files: GateFiles, word: str) -> str:
    """The device that is meant, in 32 hex digits; ConfigError where that is not one."""
    digits = word.lower()
    if not re.fullmatch(rf"[0-9a-f]{{{_FEWEST},{_ALL}}}", digits):
        hint = f"at least {_FEWEST} of the hex digits that `knockgate device list` shows, or all {_ALL}"
        raise ConfigError(f"{shown(word)} is no device", hint=hint)
    if len(digits) == _ALL:
        return digits
    found = [row for row in _rows(files) if row.startswith(digits)]
    if len(found) != 1:
        message = f"{len(found)} devices begin with {digits}" if found else f"no device begins with {digits}"
        raise ConfigError(message, hint="knockgate device list shows them")
    return found[0]


# --- what is known ------------------------------------------------------------------------------------

_NOTHING = {"state": None, "name": None}


def _rows(files: GateFiles) -> list[str]:
    """What all devices are called, each once."""
    return list(dict.fromkeys([*(each["row"] for each in _seen(files)), *_said(files)]))


def _seen(files: GateFiles, *, tells: bool = False) -> list[dict[str, Any]]:
    """The devices that have knocked, the last one first; some were turned away, and are not remembered.

    A gate that runs tells of 10,000; with ``tells`` it is said that there are more.
    """
    from knockgate.daemon.control import explain  # noqa: PLC0415 - see cli

    try:
        told = explain(files.found.gate.run_directory)
    except Unavailable:  # it does not run, or we may not ask; then we may not look either
        told = {"devices": _stored(files), "knocks": []}
    if "devices" not in told:
        hint = "knockgate up puts it in force; ssh keys of [keys.NAME] make it hear sealed packets"
        raise Unavailable("the gate that runs hears no sealed packets", hint=hint)
    if tells and (number := told.get("devices_left_out")):
        say(f"{number} more, whose last knocks were before those of the others, are left out")
        advise("while the gate is stopped, all are listed; all 32 digits name any")
    found = {(each["row"], each["key"]): {**each, "remembered": True} for each in told["devices"]}
    for each in told["knocks"]:
        if each["device"] and each["fingerprint"]:
            one = {"row": each["device"], "key": _hex(each["fingerprint"]), "era": each["era"]}
            one |= {"issued": each["issued"], "seconds_ago": each["seconds_ago"], "remembered": False}
            found.setdefault((one["row"], one["key"]), one)
    return sorted(found.values(), key=lambda each: (-each["issued"], each["row"], each["key"]))


def _hex(fingerprint: str) -> str:
    """As OpenSSH shows it -> as the store has it."""
    letters = fingerprint.removeprefix("SHA256:")
    return base64.b64decode(letters + "=" * (-len(letters) % 4)).hex()


def _stored(files: GateFiles) -> list[dict[str, Any]]:
    from knockgate.config.doors import Sealed  # noqa: PLC0415 - see cli
    from knockgate.store.marks import SqliteMarks  # noqa: PLC0415 - see cli

    sealed = files.found.sealed or Sealed()
    marks = SqliteMarks(files.marks, incarnation=files.load().incarnation, devices=sealed.devices)
    try:
        now = time.clock_gettime(time.CLOCK_REALTIME)
        return [
            {
                "row": each.row.hex(),
                "key": each.key.hex(),
                "era": each.mark.era,
                "issued": each.mark.issued / 10**9,
                "seconds_ago": round(now - each.mark.issued / 10**9, 1),
            }
            for each in marks.devices()
        ]
    finally:
        marks.close()


def _said(files: GateFiles) -> dict[str, dict[str, str | None]]:
    """What the admin has said, by the device."""
    from knockgate.config import devices  # noqa: PLC0415 - see cli

    text = devices.read(files.devices)
    said, names = devices.parse(text, str(files.devices)), devices.comments(text)
    return {
        row.hex(): {"state": "known" if row in said.known else "barred", "name": names.get(row)}
        for row in sorted(said.known | said.barred)
    }


def _fingerprint(each: dict[str, Any]) -> str | None:
    """Of the SSH key, as OpenSSH shows it."""
    if each["key"] is None:
        return None
    return "SHA256:" + base64.b64encode(bytes.fromhex(each["key"])).decode().rstrip("=")


def _when(each: dict[str, Any]) -> str:
    ago = each["seconds_ago"]
    if ago is None:
        return "none"
    when = f"{time_in_words(ago)} ago" if ago > 0 else f"in {time_in_words(-ago)}" if ago < 0 else "now"
    return when if each["remembered"] else f"refused {when}"
