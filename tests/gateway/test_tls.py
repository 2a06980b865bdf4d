"""TLS between a link and its SMSC."""

import asyncio
import ssl
import subprocess

import pytest
import uvloop

from config.settings import TlsSettings
from gateway import Verdict
from gateway.tls import Tls, tls_context
from tests.fakes.account import Account
from tests.fakes.observer import submission
from tests.fakes.smsc import Smsc


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Files of a certificate for smsc.example, which is its own authority, and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=smsc.example"
        f" -addext subjectAltName=DNS:smsc.example -out {files[0]} -keyout {files[1]}".split(),
        check=True,
        capture_output=True,
    )
    return files


def server(certificate, *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.maximum_version = version
    return context


async def life(certificate, version: ssl.TLSVersion, *, demand_certificate: bool = False) -> None:
    """Bind, submit, receive, stop."""
    cert_file, key_file = certificate
    context = server(certificate, version=version)
    settings = TlsSettings(ca_file=cert_file, server_name="smsc.example")
    if demand_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cert_file)
        settings = TlsSettings(ca_file=cert_file, cert_file=cert_file, key_file=key_file, server_name="smsc.example")
    async with Smsc(tls=context) as smsc:
        a = Account(smsc, tls=settings)
        running = asyncio.create_task(a.link.run())
        await a.until_bound()
        a.link.submit([submission(text="Take two tablets. " * 60) for _ in range(20)])
        await a.seen.until(lambda: len(a.seen.results) == 160)
        smsc.deliver(short_message=b"YES")
        await a.seen.until(lambda: a.seen.deliveries)
        assert a.seen.deliveries[0].answer(0)
        await smsc.seen("deliver_sm_resp")
        await a.link.stop(1.0)
        await running
    assert set(a.seen.verdicts()) == {Verdict.ACCEPTED}
    assert smsc.received("unbind")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_session_lives_over_tls(certificate, version, new_loop):
    """The same session, the same fence, and octets that nobody else can read."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(life(certificate, version))


async def test_we_may_have_to_show_a_certificate(certificate):
    """Some carriers know an account by it."""
    await life(certificate, ssl.TLSVersion.TLSv1_3, demand_certificate=True)


@pytest.mark.parametrize(
    "settings",
    [
        lambda cert_file: TlsSettings(ca_file=cert_file),
        lambda cert_file: TlsSettings(ca_file=cert_file, server_name="other.example"),
        lambda _: TlsSettings(server_name="smsc.example"),
    ],
    ids=["by its address", "another name", "an authority we do not know"],
)
async def test_whoever_cannot_prove_its_name_gets_no_password(certificate, settings):
    """Anybody can listen on a port."""
    async with Smsc(tls=server(certificate)) as smsc:
        a = Account(smsc, tls=settings(certificate[0]))
        running = asyncio.create_task(a.link.run())
        await a.seen.until(lambda: any(state == "waiting" for state, _ in a.seen.states))
        running.cancel()
        await asyncio.wait([running])

    assert not smsc.log


async def test_an_smsc_without_tls_gets_no_password(certificate):
    """Nothing leaves in the clear that was meant to be private."""
    async with Smsc() as smsc:
        a = Account(smsc, tls=TlsSettings(ca_file=certificate[0], server_name="smsc.example"), bind_timeout_s=0.2)
        running = asyncio.create_task(a.link.run())
        await a.seen.until(lambda: any(state == "waiting" for state, _ in a.seen.states))
        running.cancel()
        await asyncio.wait([running])

    assert not smsc.received("bind_transceiver")


def test_old_versions_are_refused(certificate):
    """TLS 1.2 is the least, and names are checked."""
    context = tls_context(TlsSettings(ca_file=certificate[0]))

    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_a_missing_file_is_an_os_error(tmp_path):
    """The operator is told which."""
    with pytest.raises(OSError):
        tls_context(TlsSettings(ca_file=tmp_path / "none.pem"))


def test_the_oldest_version_is_the_file_s():
    """1.2 unless it says 1.3."""
    assert tls_context(TlsSettings()).minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls_context(TlsSettings(min_version="1.3")).minimum_version is ssl.TLSVersion.TLSv1_3


def test_the_peer_may_close_in_order(certificate):
    """close_notify is the end of the octets, and no failure."""
    client = Tls(tls_context(TlsSettings(ca_file=certificate[0])), "smsc.example")
    client.send(b"early")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    other = server(certificate).wrap_bio(to_server, to_client, server_side=True)
    for _ in range(2):
        to_server.write(client.take_outgoing())
        try:
            other.do_handshake()
        except ssl.SSLWantReadError:
            assert client.receive(to_client.read()) == b""
    to_server.write(client.take_outgoing())

    assert other.read() == b"early"
    other.write(b"late")
    with pytest.raises(ssl.SSLWantReadError):
        other.unwrap()
    assert client.receive(to_client.read()) == b"late"
