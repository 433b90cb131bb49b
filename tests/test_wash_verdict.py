"""Verdicts, duplicates, tables and the journal, on records made by hand."""

import csv
import dataclasses
import json
import math
import re
import zlib

import numpy as np
import pytest

from realsr_jax.system.shards import Shard
from realsr_jax.wash.figures import Figures
from realsr_jax.wash.journal import Journal, Record
from realsr_jax.wash.tables import choose_shown, summarise, write_results
from realsr_jax.wash.verdict import WORST, Limits, judge, judge_all

GOOD = Figures(
    **dict.fromkeys((field.name for field in dataclasses.fields(Figures)), 0.0)
    | {"scale": 2.0, "correlation": 0.95, "ratio": 1.0, "sharpness": 3.0, "detail": 1.0, "contrast": 50.0}
)


def figures(**changed):
    return dataclasses.replace(GOOD, **changed)


def record(name, seed=None, **changed):
    random = np.random.default_rng(zlib.crc32(name.encode()) if seed is None else seed)
    return Record(
        name=name,
        lr=f"lr/{name}",
        hr=f"hr/{name}",
        lr_width=10,
        lr_height=11,
        hr_width=20,
        hr_height=22,
        figures=figures(**changed),
        lr_hash=f"l{name}",
        hr_hash=f"h{name}",
        thumbnail=random.integers(0, 256, 256, np.uint8).tobytes().hex(),
    )


def test_a_good_pair_is_clean():
    verdict = judge(GOOD, Limits())
    assert verdict.is_clean
    assert verdict.severity == pytest.approx(0.9 / 3)
    assert not verdict.faults


@pytest.mark.parametrize(
    "fault, changed, severity",
    [
        ("shift", {"shift": 1.0}, 2),
        ("corner", {"corner": 3.0}, 3),
        ("rotation", {"rotation": -0.6}, 2),
        ("zoom", {"zoom": -1.0}, 2),
        ("moving", {"moving": 6.0}, 2),
        ("differing", {"differing": 5.0}, 2.5),
        ("gain", {"gain": 7.0}, 2),
        ("ratio", {"ratio": 0.76}, 2),
        ("colour error", {"colour_error": 8.0}, 2),
        ("sharpness", {"sharpness": 0.45}, 2),
        ("sharpness", {"sharpness": 1.0, "scale": 1.0}, 1.1),
        ("detail", {"detail": 0.125}, 2),
        ("saturated", {"saturated": 75.0}, 1.5),
        ("contrast", {"contrast": 1.0}, 3),
        ("correlation", {"correlation": 0.1}, 1.5),
        ("uncertainty", {"uncertainty": math.inf}, WORST),
        ("shift", {"shift": math.nan}, WORST),
    ],
)
def test_each_fault_by_itself(fault, changed, severity):
    verdict = judge(figures(**changed), Limits())
    assert not verdict.is_clean
    assert verdict.faults == {fault}
    assert verdict.reason.startswith(f"{fault} ")
    assert verdict.severity == pytest.approx(severity)


def test_every_limit_can_be_moved():
    assert judge(figures(shift=1.0), Limits(max_shift=1.1)).is_clean
    assert judge(figures(sharpness=0.7), Limits(min_sharpness=0.6)).is_clean
    assert not judge(figures(shift=0.3), Limits(max_shift=0.2)).is_clean
    for limit in dataclasses.fields(Limits):
        name = limit.name
        assert limit.metadata["text"]
        strict = Limits(**{name: math.inf if name.startswith("min") else 0.0})
        if name not in ("max_similarity", "min_sharpness_x1"):
            changed = figures(
                **dict.fromkeys(("shift", "corner", "rotation", "zoom", "moving", "differing", "gain"), 0.01)
                | dict.fromkeys(("colour_error", "saturated", "uncertainty"), 0.01)
                | {"ratio": 1.0001}
            )
            assert judge(changed, Limits()).is_clean
            assert not judge(changed, strict).is_clean, name


def test_different_pictures_are_named_so_whatever_else_is_wrong():
    verdict = judge(figures(correlation=0.1, shift=30.0, uncertainty=math.inf), Limits())
    assert verdict.reason == "correlation 0.10 (limit 0.40)"
    assert verdict.severity == WORST


def test_of_duplicates_the_best_stays():
    same = record("b", seed=1, shift=0.1)
    records = [
        record("a", seed=1, shift=0.3),
        dataclasses.replace(same, hr_hash="ha"),
        record("c", seed=2),
        record("d", seed=3),
        dataclasses.replace(record("e", seed=4), lr_hash="lc"),
    ]
    verdicts = judge_all(records, Limits(max_similarity=0.99))
    assert [verdict.is_clean for verdict in verdicts] == [False, True, True, True, False]
    assert verdicts[0].reason == "the same picture as b"
    assert verdicts[4].reason == "the same picture as c"


def test_alike_thumbnails():
    random = np.random.default_rng(0)
    thumbnail = random.integers(0, 200, 256)
    near = (thumbnail * 1.2 + random.normal(0, 1, 256)).astype(np.uint8)
    flat = [np.full(256, 200, np.uint8) + random.integers(0, 2, 256).astype(np.uint8) for _ in range(2)]
    pictures = [thumbnail.astype(np.uint8), near, *flat, random.integers(0, 256, 256).astype(np.uint8)]
    records = [
        dataclasses.replace(record(str(number)), thumbnail=picture.tobytes().hex(), lr_hash=str(number))
        for number, picture in enumerate(pictures)
    ]
    assert [v.fault == "duplicate" for v in judge_all(records, Limits())] == [
        False,
        True,
        False,
        False,
        False,
    ]


def test_keep_takes_the_best_share():
    records = [record(str(n), shift=n / 100, sharpness=99.0) for n in range(98, -1, -1)]
    records.append(dataclasses.replace(record("x"), fault="unreadable", problem="x: broken"))
    verdicts = judge_all(records, Limits(), keep=0.9)
    assert sum(verdict.is_clean for verdict in verdicts) == 90
    assert [verdict.is_clean for verdict in verdicts] == [False] * 9 + [True] * 90 + [False]
    everything = judge_all(records, Limits(), keep=1.0)
    assert sum(verdict.is_clean for verdict in everything) == 99


def test_results(tmp_path):
    broken = Record("c.png", "lr/c", "hr/c", fault="unreadable", problem="hr/c: broken")
    records = [record("a.png"), record("b.png", shift=1.0, gain=math.nan), broken]
    verdicts = judge_all(records, Limits())
    write_results(tmp_path, records, verdicts)
    assert (tmp_path / "clean.txt").read_text() == "a.png\n"
    assert (tmp_path / "rejected.txt").read_text() == "b.png\nc.png\n"
    rows = list(csv.DictReader((tmp_path / "pairs.csv").read_text().splitlines()))
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in rows] == ["clean", "rejected", "rejected"]
    assert [line["reason"] for line in lines][2] == "hr/c: broken"
    assert rows[1]["shift"] == "1.0"
    assert rows[1]["gain"] == ""
    assert lines[1]["gain"] is None
    assert {field.name for field in dataclasses.fields(Figures)} <= set(rows[0])


def test_summary_counts():
    records = [record(str(n), shift=s) for n, s in enumerate((0.1, 0.1, 0.45, 1.0, 30.0))]
    lines = summarise(judge_all(records, Limits()))
    assert lines[0] == "3 of 5 pairs are clean (60.00 %)"
    assert any(line.split()[:2] == ["shift", "2"] for line in lines)
    counts = [re.search(r"(?:to [\d.]+|more) +(\d)", line) for line in lines]
    assert sum(int(count[1]) for count in counts if count) == 5


def test_shown_are_the_worst_and_the_nearest_to_the_limits():
    records = [record(str(n), shift=s, sharpness=99.0) for n, s in enumerate((0.1, 0.45, 0.6, 5.0, 9.0))]
    assert choose_shown(judge_all(records, Limits()), 2) == [4, 3, 1, 2]


def pair(folder, name):
    paths = [folder / f"{side}{name}" for side in ("l", "h")]
    for path in paths:
        path.write_bytes(b"x")
    return Record(name, *map(str, paths))


def known(folder, pairs, scale):
    return set(Journal(folder, pairs, scale).records)


def test_journal_goes_on_after_a_kill(tmp_path):
    pairs = [pair(tmp_path, name) for name in "abc"]
    first = record("a", uncertainty=math.nan)
    second = dataclasses.replace(record("b"), lr=pairs[1].lr, hr=pairs[1].hr)
    journal = Journal(tmp_path, pairs, 2)
    journal.add(first)
    journal.add(second)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"record": {"name": "c", "lr"')  # a kill in the middle of a line
    again = Journal(tmp_path, pairs, 2)
    assert set(again.records) == {"a", "b"}
    assert again.records["b"] == second
    assert math.isnan(again.records["a"].figures.uncertainty)
    again.add(record("c"))
    assert known(tmp_path, pairs, 2) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("found", "instead"),
    [
        ('"shift": 0.25', '"shift": 0.75'),
        ('"shift": 0.25', '"shift": "0.25"'),
        ("00" * 256, "0g" * 256),
        ("{", "[" * 200_000),
    ],
)
def test_damaged_lines_of_the_journal_are_measured_anew(tmp_path, found, instead):
    pairs = [pair(tmp_path, name) for name in "ab"]
    journal = Journal(tmp_path, pairs, 2)
    journal.add(dataclasses.replace(record("a", shift=0.25), thumbnail="00" * 256))
    journal.add(record("b"))
    path = tmp_path / "journal.jsonl"
    damaged = path.read_text().replace(found, instead, 1)
    assert damaged != path.read_text()
    path.write_text(damaged)
    assert known(tmp_path, pairs, 2) == {"b"}


def test_journal_forgets_what_has_changed(tmp_path):
    pairs = [pair(tmp_path, name) for name in "ab"]
    journal = Journal(tmp_path, pairs, 2)
    journal.add(record("a"))
    journal.add(record("b"))
    (tmp_path / "ha").write_bytes(b"other")
    assert known(tmp_path, pairs, 2) == {"b"}
    assert not known(tmp_path, pairs, 3)


def test_journals_of_several_processes_are_one(tmp_path):
    pairs = [pair(tmp_path, name) for name in "abc"]
    first, second = (Journal(tmp_path, pairs, 2, shard=Shard(index, 2)) for index in (0, 1))
    first.add(record("a"))
    second.add(record("b"))
    second.add(record("c"))
    with (tmp_path / "journal_shard_1_of_2.jsonl").open("a") as file:
        file.write('{"record": {"name": "c", "lr"')  # the other process is writing
    assert known(tmp_path, pairs, 2) == {"a", "b", "c"}
    assert Journal(tmp_path, pairs, 2, shard=Shard(0, 3)).records.keys() == {"a", "b", "c"}


def test_what_is_known_has_the_paths_of_now(tmp_path, monkeypatch):
    """Another process may have been started in another folder."""
    one = pair(tmp_path, "a")
    Journal(tmp_path, [one], 2).add(dataclasses.replace(record("a"), lr="../elsewhere/la"))
    monkeypatch.chdir(tmp_path)
    here = Record("a", "la", "ha")
    assert Journal(tmp_path, [here], 2).records["a"].lr == "la"
