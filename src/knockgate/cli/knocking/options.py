"""The options of packets, sealed or fwknop's; of fwknop's words, those that we do not do are refused."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from knockgate.cli.page import Page
from knockgate.cli.word import FILE, Word, seconds
from knockgate.client import allow, spellings
from knockgate.config.fwknop_words import user_name
from knockgate.config.toml import Reader, Wrong, duration
from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash, Mode

__all__ = ["FwknopOption", "KnockPage", "PacketOption", "SealedOption", "packet_options"]

F = TypeVar("F", bound=Callable[..., Any])


class PacketOption(click.Option):
    """One that is about packets of either kind; help lists them by themselves."""


class SealedOption(PacketOption):
    """One that is about sealed knocks alone."""


class FwknopOption(PacketOption):
    """One that is about fwknop's packets alone."""


_LISTS: tuple[tuple[str, type[click.Option]], ...] = (
    ("Options", click.Option),
    ("Of a sealed knock", SealedOption),
    ("Of a sealed knock, and of a packet of fwknop's", PacketOption),
    ("Of a packet, as fwknop calls them", FwknopOption),
)


class KnockPage(Page):
    """The page of ``knock``: lists of options, and reasons where one of fwknop's is not there."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lists."""
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        for heading, kind in _LISTS:
            shown = [each for each in options if type(each) is kind]
            rows = [row for row in (each.get_help_record(ctx) for each in shown) if row]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; ConfigError for what fwknop has and we do not."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name
            known = "--gpg" if name.startswith("--gpg") else name
            if known in _REFUSED:
                raise ConfigError(_REFUSED[known][0], key=name, hint=_REFUSED[known][1]) from None
            raise


_KEYS = (
    "secrets on a command line can be read by everybody on the machine",
    "--secrets FILE, or KNOCKGATE_KEY_BASE64 and KNOCKGATE_HMAC_KEY_BASE64 in the environment",
)
_COMMAND = (
    "a packet asks for ports here, never for a command",
    "-A tcp/22; what runs on opening is the gate's",
)
_NAT = (
    "a packet asks for the host's own ports here, not for others behind it",
    "fwknop's own client does that",
)
_GPG = ("packets are sealed with a key that both sides have, not with GPG", "make a pair: knockgate key new")
_UDP = ("a packet travels in one UDP datagram", "leave it away, and let the gate listen for UDP")
_SPOOF = ("a packet is sent from an address of this machine", "--source ADDRESS chooses which one")
_URL = ("there is no address to ask by default", "-R URL, such as -R https://ip.example/")
_PROFILE = (
    "what fwknop keeps in .fwknoprc is a profile here",
    "knockgate import fwknoprc turns one into the other",
)
_SAVED = ("nothing is saved here", "leave it away")
_KEYGEN = ("making keys is a command of its own", "knockgate key new --fwknop NAME")

_REFUSED: dict[str, tuple[str, str]] = {
    name: reason
    for names, reason in (
        ("-C --server-cmd", _COMMAND),
        ("-N --nat-access --nat-local --nat-port --nat-rand-port", _NAT),
        ("-g --gpg-encryption --gpg", _GPG),
        ("-H --http-proxy -u --user-agent --use-wget-user-agent -w --wget-cmd", _UDP),
        ("-r --rand-port --icmp-type --icmp-code", _UDP),
        ("-Q --spoof-source --spoof-src -S --source-port", _SPOOF),
        ("--resolve-ip-http --resolve-ip-https --resolve-http-only", _URL),
        ("-n --named-config --rc-file --no-rc-file --save-rc-stanza --force-stanza --stanza-list", _PROFILE),
        ("-l --last-cmd --show-last -E --save-args-file --no-save-args --no-home-dir", _SAVED),
        ("-k --key-gen -K --key-gen-file --key-len --hmac-key-len", _KEYGEN),
        ("--key-rijndael --key-base64-rijndael --key-hmac --key-base64-hmac", _KEYS),
        ("-G --get-key --get-hmac-key --stdin --fd", ("secrets come from a file of their own", _KEYS[1])),
        ("-D --destination", ("the host has no option", "knockgate knock HOST --fwknop ...")),
        ("-T --test -B --save-packet -b --save-packet-append", ("packets are sent, not kept", "--dry-run")),
        ("--use-hmac", ("what has an HMAC key uses it", "leave it away")),
        ("--server-resolve-ipv4", ("it is shorter here", "-4")),
    )
    for name in names.split()
}


def _udp(value: object) -> object:
    if str(value).lower() != "udp":
        raise Wrong(*_UDP)
    return value


def _completing(names: type[enum.Enum]) -> dict[str, Any]:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001 - click's
        return [CompletionItem(each.value) for each in names if each.value.startswith(incomplete.lower())]

    return {"shell_complete": complete, "metavar": "NAME"}


_HASHES = ", ".join(each.value for each in Hash)
_OFFSET = seconds(duration(0, 36500 * 86400))

_Options = list[tuple[tuple[str, ...], dict[str, Any]]]

_SEALED: _Options = [
    (
        ("--card",),
        {
            "metavar": "FILE",
            "type": FILE,
            "help": "HOST is no profile: knock at the gate of this card.",
        },
    ),
    (
        ("--door",),
        {
            "metavar": "DOOR",
            "type": Word("DOOR", spellings.sealed_door),
            "multiple": True,
            "help": "What to open (default with --card: ssh); can be given again.",
        },
    ),
    (
        ("-i", "--identity"),
        {"metavar": "FILE", "type": FILE, "help": "Sign with this SSH key, and try no other one."},
    ),
    (("--small",), {"is_flag": True, "help": "Send 245 bytes instead of 1,333, for paths that carry less."}),
]

_PACKET: _Options = [
    (
        ("-a", "--allow-ip", "--allow", "allow"),
        {
            "metavar": "ADDRESS",
            "type": Word("ADDRESS", allow.sealed_allowed),
            "help": "Whom to let in (default: this machine's address on the way to HOST).",
        },
    ),
    (
        ("-s", "--source-ip", "observed"),
        {"is_flag": True, "help": "Name nobody: whoever sends the packet is let in."},
    ),
    (
        ("-R", "--resolve", "--resolve-url", "url"),
        {
            "metavar": "URL",
            "type": Word("URL", allow.url),
            "help": "Let in the address that URL answers with.",
        },
    ),
    (("--resolve-http", "resolve_http"), {"is_flag": True, "help": "Let URL be one without TLS."}),
    (
        ("-f", "--lease", "--fw-timeout", "lease"),
        {"type": seconds(spellings.sealed_lease), "help": "Ask for this long (default: the host decides)."},
    ),
    (
        ("-p", "--port", "--server-port", "port"),
        {
            "metavar": "PORT",
            "type": Word("PORT", spellings.spa_port),
            "help": "Where to (default: 62202, and for fwknop's 62201).",
        },
    ),
]

_FWKNOP: _Options = [
    (("--fwknop", "packet"), {"is_flag": True, "help": "HOST is no profile: send it a packet of fwknop's."}),
    (
        ("--secrets", "fwknop"),
        {"metavar": "FILE", "type": FILE, "help": "The secrets, as `knockgate key new` writes them."},
    ),
    (
        ("-A", "--access"),
        {"metavar": "PORTS", "type": Word("PORTS", spellings.ports), "help": "What to open: tcp/22,udp/53."},
    ),
    (
        ("-P", "--server-proto"),
        {"type": Word("udp", Reader("udp", _udp)), "expose_value": False, "hidden": True},
    ),
    (
        ("-m", "--digest-type", "digest"),
        {"type": Word("NAME", spellings.hash_name), "help": f"The checksum within: {_HASHES}."}
        | _completing(Hash),
    ),
    (
        ("--hmac-digest-type", "hmac"),
        {
            "type": Word("NAME", spellings.hash_name),
            "help": "What authenticates it; the same (default: sha256).",
        }
        | _completing(Hash),
    ),
    (
        ("-M", "--encryption-mode", "mode"),
        {
            "type": Word("NAME", spellings.mode_name),
            "help": f"{', '.join(each.value for each in Mode)} (default: cbc).",
        }
        | _completing(Mode),
    ),
    (
        ("-U", "--spoof-user", "username"),
        {
            "metavar": "USER",
            "type": Word("USER", user_name),
            "help": "The user name within (default: who is logged in).",
        },
    ),
    (("--time-offset-plus", "plus"), {"type": _OFFSET, "help": "The host's clock is ahead of ours by this."}),
    (("--time-offset-minus", "minus"), {"type": _OFFSET, "help": "It is behind."}),
]


def packet_options(command: F) -> F:
    """The options of packets: fields of their profiles, and those that ``plan`` makes fields of."""
    kinds: tuple[tuple[type[click.Option], _Options], ...] = (
        (FwknopOption, _FWKNOP),
        (PacketOption, _PACKET),
        (SealedOption, _SEALED),
    )
    for kind, options in kinds:
        for words, more in reversed(options):
            command = click.option(*words, cls=kind, **more)(command)
    return command
