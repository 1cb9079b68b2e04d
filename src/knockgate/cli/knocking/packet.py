"""A knock that is one packet of fwknop's."""

from __future__ import annotations

import getpass
import os
import secrets
import sys
import time

import click

from knockgate.cli.knocking.attempt import Attempt
from knockgate.cli.knocking.whom import Whom
from knockgate.cli.terminal import advise, say
from knockgate.client import secret_sources, send
from knockgate.client.profiles import PacketProfile
from knockgate.client.request import OBSERVED, pack
from knockgate.client.wait import State
from knockgate.clock import KernelClock
from knockgate.config.readers import Reliance
from knockgate.config.toml import spell
from knockgate.errors import ConfigError
from knockgate.model import address_text
from knockgate.spa.fwknop import Mode, Secret

__all__ = ["PacketAttempt"]

_VARIABLES, _TERMINAL = "the environment", "this terminal"


class PacketAttempt(Attempt):
    """One datagram."""

    what = "the packet"

    def __init__(self, profile: PacketProfile) -> None:
        super().__init__(profile)
        self._plan = profile
        self._clock = KernelClock(Reliance.AUTO)
        self._payload = b""
        given = not secret_sources.VARIABLES.keys().isdisjoint(os.environ)
        self._secrets_from = str(profile.fwknop or (_VARIABLES if given else _TERMINAL))
        self._whom = Whom(profile.allow, self.address, self.source, profile.source)
        self._whom.warn()

    def ready(self) -> None:
        """Find secrets and address, and make the packet."""
        plan, secret = self._plan, self._secrets()
        if secret.hmac_key is None and plan.mode is not Mode.LEGACY:
            say("there is no HMAC key: whoever intercepts the packet can change it")
        self._whom.find()
        allowed = self._whom.found or OBSERVED
        now = self._clock.read().now
        nonce, salt = f"{secrets.randbelow(10**16):016d}", os.urandom(8)
        self._payload = pack(plan, secret, allowed, now=now, nonce=nonce, salt=salt)

    def _secrets(self) -> Secret:
        plan = self._plan
        found = secret_sources.of_file(plan) or secret_sources.of_environment(
            os.environ, plan.hmac, plan.mode
        )
        if found:
            return found
        if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):  # None: it was closed
            hint = "--secrets FILE, or KNOCKGATE_KEY_BASE64 and KNOCKGATE_HMAC_KEY_BASE64 in the environment"
            raise ConfigError("there are no secrets, and no terminal to ask for them", hint=hint)
        try:
            return secret_sources.typed(getpass.getpass, plan.hmac, plan.mode)
        except EOFError:
            raise click.Abort from None

    def send(self) -> float:
        """Send it."""
        return send.datagram(self.address, self._plan.port, self._payload, source=self._plan.source)

    def asked(self) -> dict[str, object]:
        """What is in the packet, without the secrets."""
        plan = self._plan
        packet = {
            "port": str(plan.port),
            "access": [str(port) for port in plan.access],
            "allow": address_text(OBSERVED) if self._whom.observed else self._whom.text(),
            "allow_from": self._whom.by,
            "lease": plan.lease,
            "digest": plan.digest.value,
            "hmac": plan.hmac.value,
            "mode": plan.mode.value,
            "username": plan.username,
        }
        return {"packet": packet}

    def line(self, where: str) -> str:
        """The same in words."""
        plan = self._plan
        origin = f"from {self.source}" if self.source else "but there is no route"
        does = "sent" if self.sent else "would send"
        line = f"{does} a packet to {where}, {plan.port}, {origin}: {self._request()}"
        if not self.sent:
            line += (
                f"\n  as user {plan.username}, with digest {plan.digest.value}, HMAC {plan.hmac.value} and "
            )
            line += f"mode {plan.mode.value}; secrets from {self._secrets_from}"
        return line

    def _request(self) -> str:
        ports = ", ".join(map(str, self._plan.access))
        lease = f", for {spell(self._plan.lease)}" if self._plan.lease else ""
        return f"{ports} for {self._whom.words()}{lease}"

    def explain(self, state: State) -> None:
        """Say what the host may not have liked."""
        if state != "filtered":
            super().explain(state)
            return
        moment = self._clock.read()
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment.now))
        doubt = "" if moment.synchronised else ", and nothing keeps it right"
        say(f"our clock says {clock} UTC{doubt}; the host wants the same to within two minutes")
        say(f"asked for {self._request()}{self._whom.why()}; secrets from {self._secrets_from}")
        hint = f"the host's log has the reason, if the packet came to its {self._plan.port}"
        if self._whom.found and len(self._whom.found) == 16:
            hint += "; fwknopd knows no IPv6: -4 or -a ADDRESS"
        advise(hint)
