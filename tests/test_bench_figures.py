"""Tables and pictures say what the result files give, and the check finds what they do not."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import results
from benchmarks.bench_peers import OURS, SYSTEMS
from benchmarks.figures import costs, evidence, others, pictures, tables, wanted
from benchmarks.figures.__main__ import PAGES, main
from benchmarks.figures.evidence import Unusable
from benchmarks.figures.pages import sections
from benchmarks.figures.words import number
from benchmarks.plan import RUNS

if TYPE_CHECKING:
    from pathlib import Path

CPU = {"daemon": 0.03, "postgres": 0.04, "sink": 0.01, "enqueuers": 0.01}


def run_of(name: str, **other: Any) -> dict[str, Any]:
    """A run of the journey that reaches every goal; made up."""
    return {
        "run": name,
        "seconds": 60.0,
        "backlog": 1_000_000,
        "throughput_per_s": 100,
        "window_allows_per_s": 450.0,
        "delivered_per_s": 21_000.0,
        "segments_per_s": 449.0,
        "receipts_per_s": 12_000.0,
        "segments_by_lane": [0, 1_600, 800, 400, 200, 100],
        "from_database": {"delivered_per_s": 20_500.0, "jobs_per_receipt_flush": 90.0},
        "cpu_s_per_1000": CPU,
        "cores": {"daemon": 0.004},
        "calibration": {"before": 23.0, "during": 21.0, "after": 23.0},
        "rss_mb": 55.0,
        "jobs_per_claim": 100.0,
        "waiting": {"begin": 4_000, "end": 4_000},
        "receipts_owed": {"begin": 900, "end": 1_000},
        "ready_rows": {"begin": 3_000, "end": 2_900},
        "first_submit_after_s": [0.4, 0.3],
        "sink": {"most_in_any_second": 97},
        "emergencies": {
            "count": 1_200, "p50_ms": 1.5, "p90_ms": 3.0, "p99_ms": 4.0, "most_ms": 30.0, "from_call_p50_ms": 2.0,
            "from_call_p99_ms": 6.0, "enqueue_p50_ms": 0.5, "enqueue_p99_ms": 1.5,
            "histogram": {"least_ms": 0.1, "per_decade": 20, "counts": [0] * 20 + [600, 400, 200]},
        },
        "account": {"problems": []},
        "inside": {"sessions": {"settle: running": 0.3, "settle: IO WalSync": 0.1, "apply_receipts: running": 0.1}},
        "statements": {"settle": {"items": 400.0}},
        **other,
    }  # fmt: skip


def document(
    bench: str, *runs: dict[str, Any], date: str = "2026-11-26T04:00:00+00:00", **other: Any
) -> dict[str, Any]:
    """A result file's content."""
    return {
        "bench": bench,
        "command": f"python -m benchmarks.bench_{bench} --save",
        "date": date,
        "machine": {"architecture": "x86_64", "cores": 2, "cpu": "Example 9000", "memory_gb": 16.0},
        "versions": {"python": "3.11.7", "commit": "0123456789ab", "postgresql": "18.1"},
        "runs": list(runs),
        **other,
    }


EMERGENCY = document("emergency", *(run_of(name) for name in ("three-quarters", "saturated", "throttled")))

MS = {"p50_ms": 11.0, "p90_ms": 20.0, "p99_ms": 30.0, "most_ms": 45.0}
STAGES = ("committed", "not_committed", "answered", "in_event", "from_read_to_read")


def inbound(**other: Any) -> dict[str, Any]:
    """A result of bench_inbound that reaches what it must; made up."""
    replies = {"per_s": 499.0, **dict.fromkeys(STAGES, MS)} | other.pop("inbound", {})
    its = {"submitted_per_s": 4_990.0, "mo_per_s": 500.0, "offered_per_s": 5_000.0, "inbound": replies}
    return document("inbound", run_of("inbound", **its, load_average={"begin": 1.0, "end": 2.5}, **other))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The pages of this repository, and no result."""
    for page in PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(results.ROOT / page, tmp_path / page)
    (tmp_path / "benchmarks" / "results").mkdir()
    main([], tmp_path)
    return tmp_path


def keep(root: Path, result: dict[str, Any], variant: str = "") -> Path:
    """Write a result as a bench would."""
    return results.save(result, variant, root / "benchmarks" / "results")


def row(root: Path, begins: str) -> wanted.Found:
    """The row of what we want to show that begins so."""
    rows = wanted.found(evidence.read(root / "benchmarks" / "results"))
    (one,) = [found for found in rows if found.row.what.startswith(begins)]
    return one


class TestRepository:
    def test_every_figure_of_the_pages_is_in_a_result_file(self, capsys):
        """None was written by hand, and none is older than its result."""
        code = main(["--check"])

        assert code == 0, capsys.readouterr().err


class TestCheck:
    def test_what_was_written_is_what_the_check_wants(self, root, capsys):
        """The same files give the same pages, however often."""
        keep(root, EMERGENCY)
        assert main([], root) == 0
        before = [(root / page).read_text() for page in PAGES]

        assert main([], root) == 0
        assert [(root / page).read_text() for page in PAGES] == before
        assert main(["--check"], root) == 0

    def test_a_new_result_makes_the_page_wrong_until_it_is_written(self, root, capsys):
        """The check names the page and the section."""
        keep(root, EMERGENCY)

        assert main(["--check"], root) == 1
        told = capsys.readouterr().err
        assert "benchmarks/README.md: section wanted, results, emergency" in told
        assert "README.md: section capacity" in told

    def test_a_figure_that_no_result_gives_is_found(self, root, capsys):
        """Somebody wrote a better one."""
        keep(root, EMERGENCY)
        main([], root)
        page = root / "README.md"
        page.write_text(page.read_text().replace("p99 4.00 ms", "p99 3.00 ms"))
        capsys.readouterr()

        assert main(["--check"], root) == 1
        assert capsys.readouterr().err.startswith("README.md: section capacity: ")

    def test_the_check_writes_nothing(self, root):
        """It runs in the suite."""
        keep(root, EMERGENCY)
        before = [(root / page).read_text() for page in PAGES]
        main(["--check"], root)

        assert [(root / page).read_text() for page in PAGES] == before

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            (lambda text: text.replace("<!-- figures: codec -->", ""), "no section codec"),
            (lambda text: text + "\n<!-- figures: codec -->\n<!-- end -->\n", "section codec is there twice"),
            (lambda text: text + "\n<!-- figures: speed -->\n<!-- end -->\n", "nothing makes the section speed"),
        ],
    )
    def test_a_page_without_its_sections_is_one_line(self, root, capsys, wrong, told):
        """Exit 2: there is nowhere to write."""
        page = root / "benchmarks/README.md"
        page.write_text(wrong(page.read_text()))
        capsys.readouterr()

        assert main([], root) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"figures: benchmarks/README.md: {told}")

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("{", "journey.json: no JSON"),
            ("[]", "journey.json: no result: lacks bench"),
            (json.dumps(document("journey", {"run": "sustained"})), "journey.json: a run lacks delivered_per_s"),
        ],
    )
    def test_a_result_that_cannot_be_used_is_one_line(self, root, capsys, content, told):
        """With the file's name, and exit 2."""
        (root / "benchmarks/results/journey.json").write_text(content)
        capsys.readouterr()

        assert main(["--check"], root) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"figures: {told}")


class TestWanted:
    def test_what_has_no_result_is_not_measured(self, root):
        """Every row of it."""
        found = list(wanted.found(evidence.read(root / "benchmarks" / "results")))

        assert [(one.measured, one.met) for one in found] == [("not measured", "not measured")] * len(wanted.ROWS)

    def test_every_row_can_be_reached(self, root):
        """With runs of all names that the benchmarks use: no row looks for one that nobody plays."""
        keep(root, document("journey", *(run_of(name) for name in RUNS)))
        keep(root, EMERGENCY)
        keep(root, inbound())
        systems = tuple(name for name in SYSTEMS if name != OURS)
        keep(
            root,
            document(
                "peers",
                *({"system": name} for name in systems * 2),
                medians=[{"system": name, "ours_is": 120.0} for name in systems],
            ),
        )
        found = list(wanted.found(evidence.read(root / "benchmarks" / "results")))

        assert [one.row.what for one in found if one.met not in {wanted.MUST, wanted.GOAL}] == []

    @pytest.mark.parametrize(
        ("per_s", "met"), [(14_999.0, "**missed**"), (15_000.0, "must"), (19_999.0, "must"), (20_000.0, "goal")]
    )
    def test_a_missed_must_is_shown_as_missed(self, root, per_s, met):
        """And nothing else is."""
        keep(root, document("journey", run_of("sustained", delivered_per_s=per_s)))

        assert row(root, "sustained").met == met

    def test_the_fewer_of_two_counts_is_told(self, root):
        """Sink and database count what was delivered."""
        keep(root, document("journey", run_of("sustained", from_database={"delivered_per_s": 9_000.0})))

        assert (row(root, "sustained").measured, row(root, "sustained").met) == ("9,000/s", "**missed**")

    @pytest.mark.parametrize(
        ("other", "why"),
        [
            ({"backlog": 999}, "999 of 1,000,000 waiting"),
            ({"emergencies": EMERGENCY["runs"][0]["emergencies"] | {"count": 7}}, "7 of 1,000 emergencies"),
            ({"account": {"problems": ["3 lost"]}}, "PROBLEM in its account"),
        ],
    )
    def test_a_run_that_is_less_than_was_asked_for_shows_nothing(self, root, other, why):
        """However good its figures; and bad ones are missed all the same."""
        keep(root, document("emergency", run_of("saturated", **other)))
        assert row(root, "the same, both cores").met == f"not shown ({why})"

        late = {**run_of("saturated", **other)["emergencies"], "p99_ms": 51.0}
        keep(root, document("emergency", run_of("saturated", **other | {"emergencies": late})))
        assert row(root, "the same, both cores").met == f"**missed** ({why})"

    def test_the_middle_of_rounds_stands_for_them(self, root):
        """Too few of them, or a problem in one of the same system, and the ratio shows nothing."""
        for rounds, problems, met in (
            (2, [], "must"),
            (1, [], "not shown (1 of 2 rounds)"),
            (2, ["3 lost"], "not shown (PROBLEM in its account)"),
        ):
            other = {"system": "kannel-memory", "calibration": {"during": 19.0}, "account": {"problems": problems}}
            lost = {"system": "tocsin", "account": {"problems": ["of another row"]}}
            medians = [{"system": "kannel-memory", "ours_is": 4.0}]
            keep(root, document("peers", *[other] * rounds, lost, medians=medians))
            found = row(root, "messages/s against Kannel, no store")

            assert (found.measured, found.met) == ("4.0 x", met)
            assert [run.calibration for run in found.runs] == [[19.0] * rounds]

    def test_the_worst_number_of_a_row_counts(self, root):
        """p50 at its goal and p99 past its must is missed; a run that is not there is not passed over."""
        late = run_of("three-quarters")["emergencies"] | {"p99_ms": 25.1}
        keep(root, document("emergency", run_of("three-quarters", emergencies=late)))
        keep(root, document("journey", run_of("receipts-10"), run_of("receipts-100")))

        assert row(root, "emergencies, commit").measured == "p50 1.50 ms, p99 25.1 ms"
        assert row(root, "emergencies, commit").met == "**missed**"
        assert row(root, "receipts/s").measured == "1: not measured, 10: 12,000/s, 100: 12,000/s"
        assert row(root, "receipts/s").met == "not all measured"

    def test_a_queue_that_grows_is_not_sustained(self, root):
        """By more than a hundredth of what was delivered, in jobs or in receipts that are owed."""
        for grew, met in ((12_200, "goal"), (12_301, "not shown (the queue grew by 12,301)")):
            keep(root, document("journey", run_of("sustained", receipts_owed={"begin": 900, "end": 900 + grew})))

            assert row(root, "sustained").met == met

    def test_a_limit_that_was_passed_is_missed(self, root):
        """By one segment in one sliding second."""
        keep(root, document("emergency", run_of("throttled", sink={"most_in_any_second": 101})))

        assert row(root, "the same on a link").measured == "p99 4.00 ms, any second 101 segments"
        assert row(root, "the same on a link").met == "**missed**"

    @pytest.mark.parametrize(
        ("other", "met"),
        [
            ({"inbound": {"committed": MS | {"p99_ms": 50.1}}}, "**missed**"),
            ({"inbound": {"per_s": 489.0}}, "not shown (489 texts/s, not 500/s)"),
            ({"inbound": {"per_s": 491.0}}, "must"),
            ({"seconds": 30.0}, "not shown (30 s of 60 s)"),
        ],
    )
    def test_a_text_from_a_handset_counts_at_the_latest_commit_and_at_its_rate(self, root, other, met):
        """Fewer texts a second show nothing, and neither does a shorter window."""
        keep(root, inbound(**other))

        assert row(root, "a text from a handset").met == met

    def test_a_lane_counts_by_its_distance_from_its_weight(self, root):
        """In per cent of the weight, the furthest lane."""
        keep(root, document("journey", run_of("lanes", segments_by_lane=[9, 1_600, 800, 400, 200, 120])))

        assert row(root, "each backlogged").measured == "19.2 %"


class TestEvidence:
    def test_the_newest_of_two_files_counts(self, root):
        """Whatever it says: a better figure of an older day is not looked for."""
        keep(root, document("journey", run_of("sustained")))
        keep(root, document("journey", run_of("sustained", delivered_per_s=8.0), date="2026-11-27T00:00:00+00:00"), "b")

        assert row(root, "sustained").measured == "8/s"
        assert [run.result.file for run in row(root, "sustained").runs] == ["journey-b.json"]

    @pytest.mark.parametrize("variant", ["small", "small-x"])
    def test_the_small_form_is_no_figure(self, root, variant):
        """It shows that the benchmarks work."""
        keep(root, document("journey", run_of("sustained")), variant)

        assert row(root, "sustained").met == "not measured"

    def test_what_a_run_lacks_is_named(self, root):
        """The file, and the way to the figure."""
        keep(root, document("journey", run_of("sustained")))
        run = evidence.read(root / "benchmarks" / "results").run("journey", "sustained")
        assert run is not None

        with pytest.raises(Unusable, match=re.escape("journey.json: a run lacks cores / moon")):
            run.at("cores", "moon")


class TestPictures:
    def test_a_picture_is_drawn_when_there_is_a_result_and_removed_when_there_is_none(self, root, capsys):
        """The page shows it only then; a picture that no result gives is found by the check."""
        picture, pages = root / "benchmarks/pictures/emergency-latency.svg", [root / page for page in PAGES]

        def shown() -> list[bool]:
            return [picture.exists(), *("pictures/emergency-latency.svg" in page.read_text() for page in pages)]

        file = keep(root, EMERGENCY)
        assert shown() == [False, False, False]
        main([], root)
        assert shown() == [True, True, True]

        file.unlink()
        capsys.readouterr()
        assert main(["--check"], root) == 1
        assert "benchmarks/pictures/emergency-latency.svg: picture" in capsys.readouterr().err
        main([], root)
        assert shown() == [False, False, False]

    def test_a_picture_that_was_touched_or_that_nobody_draws_is_found(self, root, capsys):
        """By its name."""
        keep(root, EMERGENCY)
        main([], root)
        picture = root / "benchmarks/pictures/emergency-latency.svg"
        picture.write_text(picture.read_text().replace("p99 4.00", "p99 3.00"))
        (picture.parent / "speed.svg").write_text("<svg/>")
        capsys.readouterr()

        assert main(["--check"], root) == 1
        assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == [
            "benchmarks/pictures/emergency-latency.svg",
            "benchmarks/pictures/speed.svg",
        ]

    @pytest.mark.parametrize("page", PAGES)
    def test_what_a_page_links_to_is_there(self, root, page):
        """Pictures and result files, from where the page is."""
        keep(root, EMERGENCY)
        keep(root, document("journey", *(run_of(run) for run in RUNS)))
        main([], root)
        made = "".join(sections((root / page).read_text()).values())
        targets = set(re.findall(r"\]\(([^)]+)\)", made))

        assert targets
        assert [target for target in targets if not (root / page).parent.joinpath(target).exists()] == []

    @pytest.mark.parametrize("name", pictures.PICTURES)
    def test_every_picture_is_whole_and_inside_its_frame(self, root, name):
        """It is XML, and each rectangle lies within the width and the height that it says."""
        keep(root, EMERGENCY)
        keep(root, document("journey", *(run_of(run) for run in RUNS)))
        keep(root, document("peers", medians=[{"system": "a & b", "delivered_per_s": 9_000.0, "ours_is": 2.0}]))
        drawn = pictures.PICTURES[name](evidence.read(root / "benchmarks" / "results"))
        assert drawn is not None
        svg = ET.fromstring(drawn)
        width, height = float(svg.attrib["width"]), float(svg.attrib["height"])

        boxes = svg.findall("{*}rect")[1:]
        assert boxes
        for box in boxes:
            x, y, wide, tall = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
            assert 0 <= x <= x + wide <= width
            assert 0 <= y <= y + tall <= height

    def test_a_bar_is_as_tall_as_its_share_and_late_ones_are_of_another_colour(self, root):
        """Two buckets of the same condition, one with three times the emergencies of the other, past what p99 must be."""
        counts = {"least_ms": 0.1, "per_decade": 20, "counts": [10] + [0] * 49 + [30]}
        urgent = EMERGENCY["runs"][0]["emergencies"] | {"histogram": counts}
        keep(root, document("emergency", run_of("three-quarters", emergencies=urgent)))
        drawn = pictures.emergency_latency(evidence.read(root / "benchmarks" / "results"))
        assert drawn is not None
        early, late = ET.fromstring(drawn).findall("{*}rect")[1:]

        assert (early.attrib["class"], late.attrib["class"]) == ("first", "late")
        assert float(late.attrib["height"]) == pytest.approx(
            3 * float(early.attrib["height"]), abs=0.3
        )  # written with one digit
        assert float(late.attrib["x"]) > float(early.attrib["x"])


class TestTables:
    def test_each_table_is_one(self, root):
        """Every row has as many cells as its head, with all results there and with none."""
        for kept in (False, True):
            if kept:
                keep(root, document("journey", *(run_of(name) for name in RUNS)))
                keep(root, EMERGENCY)
            found = evidence.read(root / "benchmarks" / "results")
            makers = (
                tables.what_we_want,
                tables.journey,
                tables.rounds,
                tables.emergency,
                tables.results,
                tables.capacity,
                costs.costs,
            )
            for maker in makers:
                rows = [line for line in maker(found) if line.startswith("|")]

                assert len({line.count("|") for line in rows}) <= 1, maker

    def test_the_first_round_stands_for_the_run_and_all_are_shown(self, root):
        """Each with the sink's own time, by which the first one was chosen; other runs of the file are not among them."""
        rounds = [
            run_of("sustained", cpu_s_per_1000={"daemon": 0.05, "postgres": 0.06, "sink": sink, "enqueuers": 0.01})
            for sink in (0.01, 0.02)
        ]
        keep(root, document("journey", rounds[0], run_of("idle"), rounds[1]))
        lines = list(tables.rounds(evidence.read(root / "benchmarks" / "results")))

        assert row(root, "CPU of daemon").measured == "0.110 CPU-s"
        assert lines[2:4] == [
            "| 60 | 20,500 | 0.110 | 0.0100 | 11.0 | 4.00 | 21.0 |",
            "| 60 | 20,500 | 0.110 | 0.0200 | 5.5 | 4.00 | 21.0 |",
        ]
        assert [line for line in lines[4:] if line.startswith("|")] == []

    def test_the_times_of_a_text_stand_beside_what_they_were_measured_with(self, root):
        """Every stage, both rates, and how often the row was looked for."""
        keep(root, inbound())
        lines = list(others.inbound(evidence.read(root / "benchmarks" / "results")))

        assert "| deliver_sm -> committed, at the latest | 11.0 | 20.0 | 30.0 | 45.0 |" in lines
        assert lines[7] == (
            "60 s: 499/s texts of 500/s offered, 4,990/s messages sent of 5,000/s; CPU-s for 1,000 delivered: "
            "0.030 + 0.040; load average 1.00 to 2.50; the row of a text was looked for every 11.0 ms."
        )

    def test_postgres_time_is_shared_out_by_what_ran_and_a_missed_peer_has_its_budget(self, root):
        """What only waited took no time; a peer that is outrun as it must be has no line."""
        keep(root, document("journey", run_of("inside"), date="2026-11-25"))
        medians = [
            {"system": "kannel-memory", "delivered_per_s": 5_000.0, "ours_is": 2.0},
            {
                "system": "tocsin",
                "delivered_per_s": 10_000.0,
                "cpu_system": 0.03,
                "cpu_postgres": 0.05,
                "ours_is": None,
            },
            {"system": "kannel-spool", "delivered_per_s": 1_000.0, "ours_is": 10.0},
        ]
        keep(root, document("peers", medians=medians))
        lines = list(costs.costs(evidence.read(root / "benchmarks" / "results")))

        assert "| daemon | 30.0 | 42.9 % | - |" in lines
        assert "| PostgreSQL: settle | 30.0 | 42.9 % | 400 |" in lines
        assert "| PostgreSQL: apply_receipts | 10.0 | 14.3 % | - |" in lines
        (missed,) = [line for line in lines if line.startswith("*")]
        assert missed.startswith("* 3.5 x of kannel-memory is 17,500/s here: 114 us of 2 cores a message, ")
        assert missed.endswith("Daemon and PostgreSQL take 80.0 us.")

    def test_each_flood_has_its_column(self, root):
        """The newest of each throughput; what was not played is said."""
        for day, (limit, last) in enumerate([(400, 9.0), (400, 2.0), (6_000, 3.0)], 1):
            run = run_of("flood", throughput_per_s=limit, flood={"emergencies": 50_000, "last_after_s": last})
            keep(root, document("backlog", run, date=f"2026-11-2{day}", missing=["oars: not installed"]), f"{day}")
        lines = list(others.flood(evidence.read(root / "benchmarks" / "results")))

        assert lines[0] == "| flood of emergencies | link of 400 segments/s | link of 6,000 segments/s |"
        assert "| the last left after the commit | 2.00 s | 3.00 s |" in lines
        assert "Not played: oars: not installed." in lines

    def test_each_condition_stands_beside_its_neighbour_as_last_played(self, root):
        """Conditions that take an hour are played apart from the others."""
        played = {1: {"waiting": 1.0, "writer": 3.0}, 2: {"snapshot": 2.0, "writer": 1.5}}
        for day, conditions in played.items():
            comparisons = [
                {"condition": name, "worse": [], "figures": {"rss_mb": {"a": 60.0, "b": 60.0 * by, "ratio": by}}}
                for name, by in conditions.items()
            ]
            keep(root, document("backlog", date=f"2026-11-2{day}", comparisons=comparisons), f"{day}")
        head, _, line, *_ = others.backlog(evidence.read(root / "benchmarks" / "results"))

        assert head == "| figure: A -> B, B / A | waiting | snapshot | writer |"
        assert re.findall(r", (\d\.\d\d) \|", line) == ["1.00", "2.00", "1.50"]

    def test_a_result_says_what_it_was_made_with(self, root):
        """Date, commit, machine, versions, calibration and command, a row a file."""
        keep(root, document("journey", run_of("sustained"), run_of("idle", calibration={"during": 9.0})), "x")
        *_, line = tables.results(evidence.read(root / "benchmarks" / "results"))

        assert line == (
            "| [journey-x](results/journey-x.json) | 2026-11-26T04:00:00+00:00 | 0123456789ab | 2 cores, Example 9000 "
            "| Python 3.11.7, PostgreSQL 18.1 | 9.0 to 21.0 | `python -m benchmarks.bench_journey --save` |"
        )

    @pytest.mark.parametrize(
        ("value", "unit", "told"),
        [
            (12_345.6, "/s", "12,346/s"),
            (0.0754, "CPU-s", "0.075 CPU-s"),
            (1.234, "ms", "1.23 ms"),
            (9.996, "ms", "10.0 ms"),
            (12.34, "ms", "12.3 ms"),
            (1234.5, "ms", "1,234 ms"),
            (None, "ms", "-"),
        ],
    )
    def test_a_number_is_written_in_one_way(self, value, unit, told):
        """Three digits where no unit says otherwise."""
        assert number(value, unit) == told
