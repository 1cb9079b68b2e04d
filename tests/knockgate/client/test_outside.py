"""Asking a URL for our address: a real server, good and bad."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.knockgate.cli.process import knockgate
from tests.netns import isolated, up

from knockgate.client import outside
from knockgate.client.send import Family
from knockgate.errors import Unavailable

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]

FOUR, SIX = Family.AF_INET, Family.AF_INET6


class _Server(http.server.ThreadingHTTPServer):
    def __init__(self, answer: Answer, address: str, certificate: Path | None) -> None:
        class Asked(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 0), Asked)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, *_: object) -> None:
        """A client that does not trust us goes away in the middle."""


@contextlib.contextmanager
def _serving(answer: Answer, address: str = "127.0.0.1", certificate: Path | None = None) -> Iterator[str]:
    """The URL of a server that answers so."""
    with _Server(answer, address, certificate) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            host = f"[{address}]" if ":" in address else address
            yield f"{'https' if certificate else 'http'}://{host}:{server.server_port}/ip?plain"
        finally:
            server.shutdown()
            thread.join()


def _says(content: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        with contextlib.suppress(OSError):  # who reads no further is gone
            request.wfile.write(content)

    return answer


def _mumbles(request: http.server.BaseHTTPRequestHandler) -> None:
    """What a terminal would obey."""
    request.wfile.write(b"\x1b[31mred\r\n\r\n")


def _mirror(request: http.server.BaseHTTPRequestHandler) -> None:
    """The address that asks, as such services answer."""
    assert request.path == "/ip?plain"
    _says(f"{request.client_address[0]}\n".encode())(request)


@isolated
def test_the_answer_is_the_address_of_the_family_and_source() -> None:
    up("lo", "127.0.0.9/8", "fd09::1/128")
    with _serving(_mirror) as url, _serving(_mirror, "::1") as url6:
        assert outside.ask(url, FOUR) == bytes([127, 0, 0, 1])
        assert outside.ask(url, FOUR, "127.0.0.9") == bytes([127, 0, 0, 9])
        assert outside.ask(url6, SIX) == ipaddress.ip_address("::1").packed
        # A server of the other family alone is not asked: it would see another address of ours.
        for other, family in ((url, SIX), (url6, FOUR)):
            with pytest.raises(Unavailable, match="does not answer"):
                outside.ask(other, family)


@pytest.mark.parametrize(
    ("answer", "message", "hint"),
    [
        (
            _says(b"2001:db8::7"),
            "answers with 2001:db8::7, but the host is knocked at over IPv4",
            "-6 knocks",
        ),
        (_says(b"<html>192.0.2.7</html>"), "does not answer with an address", "nothing else"),
        (_says(b""), "does not answer with an address", "nothing else"),
        (_says(b"192.0.2.7 192.0.2.8"), "does not answer with an address", "nothing else"),
        (_says(b"192.0.2.7\xff"), "does not answer with an address", "nothing else"),
        (_says(b"192.0.2.7" + b" " * 1000), "answers with more than an address", "nothing else"),
        (_says(b"0.0.0.0"), "answers with the address of no host", "-a ADDRESS"),
        (_says(b"224.0.0.1"), "answers with the address of no host", "-a ADDRESS"),
        (_says(b"255.255.255.255"), "answers with the address of no host", "-a ADDRESS"),
        (_mumbles, "does not answer: it does not speak HTTP", "-a ADDRESS"),
        (_says(b"192.0.2.7", 404), "answers with status 404", "another URL"),
        (_says(b"192.0.2.7", 302, Location="http://192.0.2.1/"), "with status 302", "http://192.0.2.1/"),
    ],
)
def test_what_is_not_one_address_is_refused(answer: Answer, message: str, hint: str) -> None:
    with _serving(_says(b" 192.0.2.7\r\n")) as control:
        assert outside.ask(control, FOUR) == bytes([192, 0, 2, 7])
    with _serving(answer) as url, pytest.raises(Unavailable) as refused:
        outside.ask(url, FOUR)
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")


def test_a_server_that_never_ends_does_not_hold_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "_TIMEOUT", 0.3)
    gone = threading.Event()

    def silent(_: http.server.BaseHTTPRequestHandler) -> None:
        gone.wait(30)

    def endless(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with contextlib.suppress(OSError):
            while not gone.is_set():
                request.wfile.write(b"1")
                time.sleep(0.005)

    def dripping(request: http.server.BaseHTTPRequestHandler) -> None:
        """Each byte comes well within the time that a socket is waited for."""
        with contextlib.suppress(OSError):
            for octet in b"HTTP/1.0 200 OK\r\nX-Long: " + b"x" * 1000:
                request.wfile.write(bytes([octet]))
                if gone.wait(0.05):
                    break

    for answer in (silent, endless, dripping):
        gone.clear()
        with _serving(answer) as url:
            began = time.monotonic()
            with pytest.raises(Unavailable):
                outside.ask(url, FOUR)
            assert time.monotonic() - began < 5
            gone.set()


@pytest.mark.parametrize("host", ["a" * 70, "a..b", "none.invalid"])
def test_a_host_that_is_none_does_not_answer(host: str) -> None:
    with pytest.raises(Unavailable, match="does not answer: "):
        outside.ask(f"http://{host}/", FOUR)


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    with _serving(_says(b"192.0.2.7")) as url:
        assert outside.ask(url, FOUR) == bytes([192, 0, 2, 7])


def _certificate(folder: Path) -> Path:
    """One for 127.0.0.1, signed by itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    day = dt.datetime.fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME), dt.UTC)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(day - dt.timedelta(days=1))
        .not_valid_after(day + dt.timedelta(days=1))
        .add_extension(host, critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file = folder / "certificate.pem"
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(private + made.public_bytes(encoding))
    return file


def test_a_certificate_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = _certificate(tmp_path)
    with _serving(_says(b"192.0.2.7"), certificate=certificate) as url:
        with pytest.raises(Unavailable, match="does not answer: self-signed certificate"):
            outside.ask(url, FOUR)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert outside.ask(url, FOUR) == bytes([192, 0, 2, 7])


def test_the_command_asks_before_it_knocks(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("KEY: one\nHMAC_KEY: other\n")
    file.chmod(0o600)
    words = ["knock", "127.0.0.1", "--fwknop", "--secrets", str(file), "-A", "22", "--resolve-http"]
    with _serving(_says(b"192.0.2.7")) as url:
        told = knockgate(*words, "-R", url)
    assert told.returncode == 0, told.stderr
    assert told.stdout.endswith(": tcp/22 for 192.0.2.7\n")
    gone = knockgate(*words, "-R", url)
    assert (gone.returncode, gone.stdout) == (2, "")
    assert "does not answer: connection refused" in gone.stderr
