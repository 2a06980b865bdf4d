"""What a person may tell a running simulator."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.smsc import Console, Fault, Plan, Scenario, Smsc, SmscSettings
from gateway.smsc.console import COMMANDS
from tests.fakes.esme import WAIT_S, esme


class TestMo:
    """`mo`: a message from a handset."""

    async def test_it_goes_to_the_one_account_that_receives(self):
        """Whoever has bound as a transmitter does not count."""
        async with Smsc() as smsc, esme(smsc.port, system_id="a") as peer:
            async with esme(smsc.port, system_id="b", kind="transmitter"):
                assert Console(smsc).obey("mo +447700900123 88222 STOP  it") == "sent to a in 1 deliver_sm"
                came = await peer.next()

        assert (came.text, came.pdu.source_addr, came.pdu.destination_addr) == ("STOP  it", b"447700900123", b"88222")

    async def test_with_several_accounts_one_must_be_named(self):
        """The reply says how, and which there are."""
        async with Smsc() as smsc, esme(smsc.port, system_id="a"), esme(smsc.port, system_id="b") as peer:
            console = Console(smsc)
            assert console.obey("mo 447700900123 88222 STOP").endswith(" with one of a, b")
            assert console.obey("mo b: 447700900123 88222 STOP") == "sent to b in 1 deliver_sm"

            assert (await peer.next()).text == "STOP"

    async def test_it_waits_for_an_account_that_is_not_there_yet(self):
        """The only account is the one that is meant."""
        async with Smsc(SmscSettings(accounts={"clinic": "secret"})) as smsc:
            said = Console(smsc).obey("mo 447700900123 88222 STOP")
            assert said == "sent to clinic in 1 deliver_sm; it waits until the account receives"
            async with esme(smsc.port) as peer:
                assert (await peer.next()).text == "STOP"

    async def test_a_long_text_is_cut_and_a_line_feed_can_be_written(self):
        """The reply tells the parts."""
        async with Smsc() as smsc, esme(smsc.port) as peer:
            console = Console(smsc)
            assert console.obey(f"mo 447700900123 88222 {'x' * 161}") == "sent to clinic in 2 deliver_sm"
            assert console.obey("mo 447700900123 88222 a\\nb") == "sent to clinic in 1 deliver_sm"

            assert [(await peer.next()).pdu.short_message[-1:] for _ in range(3)] == [b"x", b"x", b"b"]
            assert smsc.held == 3

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("mo", "mo needs FROM TO TEXT"),
            ("mo 447700900123 88222", "mo needs FROM TO TEXT"),
            ("mo mother 88222 STOP", "FROM must be a number of at most 15 digits"),
            ("mo 4477009001231234 88222 STOP", "FROM must be a number of at most 15 digits"),
            ("mo 447700900123 é STOP", "TO must be at most 20 ASCII characters"),
            (f"mo 447700900123 {'8' * 21} STOP", "TO must be at most 20 ASCII characters"),
            ("mo ward: 447700900123 88222 STOP", "unknown account; one of clinic"),
            (f"mo 447700900123 88222 {'x' * 50_000}", "cannot be sent: 327 segments, at most 255"),
        ],
    )
    async def test_what_cannot_be_sent(self, line, said):
        """The reply says why, and nothing waits."""
        async with Smsc(SmscSettings(accounts={"clinic": "secret"})) as smsc:
            assert Console(smsc).obey(line) == said
            assert smsc.held == 0

    async def test_without_any_account(self):
        """Nobody is there, and nobody is known."""
        async with Smsc() as smsc:
            assert Console(smsc).obey("mo 447700900123 88222 STOP").startswith("no account receives; ")


class TestFaults:
    """What it breaks by hand."""

    async def test_throttle_and_silence_end_by_themselves(self):
        """They are faults with a span."""
        plan = Plan(chance=random.Random(1))
        async with Smsc(plan=plan) as smsc:
            console = Console(smsc)
            assert console.obey("throttle 5") == "throttle for 5 s"
            assert console.obey("silence 0.5") == "silence for 0.5 s"

        assert [(one.fault.kind, one.fault.for_s) for one in plan] == [("throttle", 5.0), ("silence", 0.5)]
        assert all(one.fault.spans(one.fault.after_s) for one in plan)
        assert not any(one.fault.spans(one.fault.after_s + 5.0) for one in plan)

    @pytest.mark.parametrize("seconds", ["", "soon", "0", "-1", "nan", "inf", "86401"])
    async def test_seconds_must_be_some(self, seconds):
        """Neither none nor endless."""
        async with Scenario().smsc() as smsc:
            assert Console(smsc).obey(f"throttle {seconds}") == "throttle needs SECONDS, above 0 and up to 86400"

    async def test_without_a_plan_nothing_can_be_broken_for_a_while(self):
        """As in the demonstration, whose simulator is never asked."""
        async with Smsc() as smsc:
            assert Console(smsc).obey("silence 5") == "this simulator was started without a plan"

    async def test_drop_resets_everybody(self):
        """RST to each."""
        async with Smsc() as smsc, esme(smsc.port) as first, esme(smsc.port) as second:
            assert Console(smsc).obey("drop") == "2 connections reset"
            for peer in (first, second):
                with pytest.raises(ConnectionResetError):
                    await peer.next()

    async def test_unbind_asks_everybody_once(self):
        """The answer ends the session."""
        async with Smsc() as smsc, esme(smsc.port) as peer:
            console = Console(smsc)
            assert console.obey("unbind") == "1 sessions unbound"
            console.obey("unbind")
            came = await peer.next()
            peer.write("unbind_resp", came.sequence_number)

            assert came.command == "unbind"
            assert await peer.next() is None

    async def test_faults_tells_what_happened(self):
        """Occasions and hits."""
        scenario = Scenario(faults=(Fault("double_answer", every=2), Fault("mo_flood", after_s=3600)))
        async with scenario.smsc() as smsc, esme(smsc.port) as peer:
            for _ in range(3):
                peer.submit(registered_delivery=0)
            for _ in range(4):
                await peer.next()

            assert Console(smsc).obey("faults").splitlines() == [
                "double_answer: 3 occasions, happened 1 times",
                "mo_flood: 0 occasions, happened 0 times",
            ]


class TestRest:
    """Telling and ending."""

    async def test_help_tells_every_command_and_every_command_is_known(self):
        """None of them is only in the manual."""
        async with Smsc() as smsc:
            console = Console(smsc)
            told = console.obey("help").splitlines()

            assert [line.split("  ")[0] for line in told] == list(COMMANDS)
            for form in COMMANDS:
                assert not console.obey(form.split()[0]).startswith("unknown command")

    async def test_an_empty_line_is_nothing(self):
        """Whoever presses return wants no lecture."""
        async with Smsc() as smsc:
            assert Console(smsc).obey("  \n") == ""

    async def test_status_counts(self):
        """What is open, who receives, what went through."""
        async with Smsc() as smsc, esme(smsc.port) as peer, esme(smsc.port, kind=""):
            peer.submit()
            await peer.next()
            peer.acknowledge(await peer.next())
            async with asyncio.timeout(WAIT_S):
                await smsc.until(lambda: smsc.held == 0 and len(smsc.connections) == 2)

            assert Console(smsc).obey("status") == (
                "2 connections, 1 bound, clinic receives; 1 submit_sm read, 1 deliver_sm taken, 0 refused for good,"
                " 0 messages still due"
            )

    async def test_quit_is_remembered(self):
        """Whoever runs the console ends then."""
        async with Smsc() as smsc:
            console = Console(smsc)
            assert not console.is_over
            console.obey("quit")
            assert console.is_over
