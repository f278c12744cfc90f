import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import cpu, run, table
from benchmarks.body import MESSAGE, MESSAGE_BYTES, message_of
from benchmarks.medians import differences, noise, quantile, ratio

ROOT = Path(__file__).parents[2]


def test_ratio_is_the_median_of_the_pairs() -> None:
    assert ratio([2, 4, 300], [1, 2, 3]) == 2
    assert differences([5, 7], [1, 2]) == [4, 5]


def test_noise_is_the_median_difference_of_neighbouring_runs() -> None:
    assert noise([100, 110, 110, 99]) == pytest.approx(0.1)
    assert noise([100, 100]) == 0
    assert noise([100]) == 0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_quantile_is_the_smallest_value_that_the_part_does_not_exceed(values: list[float], part: float) -> None:
    found = quantile(values, part)

    def share_up_to(value: float) -> float:
        return sum(other <= value for other in values)

    assert found in values
    assert share_up_to(found) >= len(values) * part
    assert all(share_up_to(value) < len(values) * part for value in values if value < found)


def test_row_is_met_when_its_value_reaches_the_target() -> None:
    assert table.at_least("a", 0.5, 0.5).met is True
    assert table.at_most("a", 2.3, 2.2).met is False
    assert table.below("a", 5.0, 5.0, " ms") == table.Row("a", "5 ms", "< 5 ms", met=False)
    assert table.seen("a", "1").met is None


def test_table_has_a_line_per_row_and_aligned_columns() -> None:
    lines = table.markdown([table.seen("echo", "1/s"), table.at_least("batch", 112_152, 30_000, "/s")]).splitlines()

    assert lines[3] == "| batch   | 112,152/s | ≥ 30,000/s | yes |"
    assert len({len(line) for line in lines}) == 1


def test_only_a_complete_run_replaces_the_saved_results() -> None:
    assert run.destination(run.arguments([])) == ROOT / "benchmarks" / "RESULTS.md"
    assert run.destination(run.arguments(["--quick"])) is None
    assert run.destination(run.arguments(["--only", "latency"])) is None
    assert run.destination(run.arguments(["--quick", "--output", "x.md"])) == Path("x.md")


def test_stamp_does_not_change_the_size_of_a_message() -> None:
    assert {len(message_of(stamp)) for stamp in (0, 7, 123_456_789_012_345)} == {MESSAGE_BYTES}
    assert len(MESSAGE) == MESSAGE_BYTES


def test_cpu_and_memory_of_a_process_come_from_the_kernel() -> None:
    before = cpu.cpu_seconds(os.getpid())
    memory = cpu.memory(os.getpid())

    assert cpu.cpu_seconds(os.getpid()) > before > 0
    assert memory.peak >= memory.resident > 0


def test_cpu_of_a_family_includes_running_and_ended_processes() -> None:
    spinning = "import time\nwhile time.process_time() < 0.2: pass\n"
    parent = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', sys.argv[1]])\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1] + 'print(flush=True); input()'], stdin=0)\n"
        "child.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, spinning], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as family:
        assert family.stdout is not None
        family.stdout.readline()

        assert cpu.family_seconds(family.pid) >= 0.39
        assert cpu.cpu_seconds(family.pid) < 0.2
        family.communicate(b"\n", timeout=30)


def test_benchmarks_page_explains_every_measure() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()

    assert [name for name in run.MEASURES if f"`{name}`" not in page] == []
