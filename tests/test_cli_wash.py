"""``realsr-wash`` end to end: lists for training, bad files, resuming, aligning, wrong command lines."""

import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import browser
import numpy as np
import pytest
import wash_faults
from PIL import Image

from realsr_jax.cli import wash
from realsr_jax.data.sources import PairFolder
from realsr_jax.wash.verdict import Limits

pytestmark = pytest.mark.usefixtures("working_folder")


def run(*args):
    return wash.run(["realsr-wash", *map(str, args), "--workers=2"])


def save(path, samples):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(samples).save(path)


def save_pair(name, seed, fault="", strength=0.0, lr="lr/{}_LR.png", hr="hr/{}.png", scale=2):
    photo, other = (
        wash_faults.dead_leaves(200, 260, np.random.default_rng(number)) for number in (seed, seed + 1000)
    )
    planted = wash_faults.plant(photo, other, fault, strength, scale, np.random.default_rng(seed))
    save(lr.format(name), planted.lr)
    save(hr.format(name), planted.hr)


def rows():
    return {row["name"]: row for row in csv.DictReader(Path("out/pairs.csv").read_text().splitlines())}


def listed(name="clean"):
    return Path(f"out/{name}.txt").read_text().split()


def test_lists_that_training_reads(capsys):
    for number in range(3):
        save_pair(f"{number:04}", number)
    save_pair("0003", 3, "shift", 2)
    save_pair("0004", 4, "swapped", 1)
    assert run("--lr=lr", "--hr=hr", "--output=out") == 0
    assert listed() == ["0000.png", "0001.png", "0002.png"]
    assert listed("rejected") == ["0003.png", "0004.png"]
    entries, problems = PairFolder("lr", "hr", clean_list="out/clean.txt").list_pairs(2)
    assert [Path(entry.name).name for entry in entries] == listed()
    assert not problems
    assert rows()["0003.png"]["reason"].startswith("shift 2.")
    assert rows()["0004.png"]["fault"] == "correlation"
    assert Path("out/index.html").stat().st_size
    out = capsys.readouterr().out
    assert "scale 2: measured 5 pairs" in out
    assert "3 of 5 pairs are clean" in out


def test_verdict_overturned_on_the_page_reaches_training(chromium):
    for number in range(2):
        save_pair(f"{number:04}", number)
    save_pair("0002", 2, "shift", 2)
    assert run("--lr=lr", "--hr=hr", "--output=out") == 0
    assert listed() == ["0000.png", "0001.png"]
    page = browser.Page(chromium, Path("out/index.html").resolve(), width=1280, height=800)
    page.click("article:nth-of-type(1) .overturn")  # the worst, the shifted one
    _, content = page.download("#save-clean", Path.cwd())
    page.expect_quiet()
    page.close()
    Path("mine.txt").write_text(content)
    entries, problems = PairFolder("lr", "hr", clean_list="mine.txt").list_pairs(2)
    assert [Path(entry.name).name for entry in entries] == ["0000.png", "0001.png", "0002.png"]
    assert not problems


def test_names_of_the_published_benchmark_layout():
    for number, name in enumerate(("baby", "box2")):
        save_pair(name, number, lr="LR_bicubic/X2/{}x2.png", hr="HR/{}.png")
    assert run("--lr=LR_bicubic/X2", "--hr=HR", "--output=out") == 0
    assert listed() == ["baby.png", "box2.png"]
    assert rows()["box2.png"]["lr"] == "LR_bicubic/X2/box2x2.png"
    entries, problems = PairFolder("LR_bicubic/X2", "HR", clean_list="out/clean.txt").list_pairs(2)
    assert [Path(entry.name).name for entry in entries] == listed()
    assert not problems


def test_patterns_and_scale_1():
    for number in range(2):
        save_pair(number, number, lr="city/{}L.PNG", hr="city/{}H.PNG", scale=1)
    save_pair("a.b", 2, lr="city/{}L.PNG", hr="city/{}H.PNG", scale=1)
    assert run("--lr=city/*L.PNG", "--hr=city/*H.PNG", "--output=out") == 0
    source = PairFolder("city/*L.PNG", "city/*H.PNG", clean_list="out/clean.txt")
    entries, problems = source.list_pairs(1)
    assert len(entries) == 3
    assert not problems


def test_pairs_that_no_list_can_tell_apart(capsys):
    for number, folder in enumerate(("a", "a_HR", "b")):
        save_pair(folder, number, lr="set/{}/LR.png", hr="set/{}/HR.png")
    assert run("--lr=set/*/LR.png", "--hr=set/*/HR.png", "--output=out") == 1
    assert "set/a_HR/HR.png: no list can tell it from set/a/HR.png; rename one" in capsys.readouterr().err
    assert listed() == ["a.png", "b.png"]


def test_bad_files_do_not_stop_the_good_ones(capfd):
    for number in range(2):
        save_pair(number, number)
    save_pair("copy", 1)
    save_pair("odd", 2)
    save("hr/odd.png", np.array(Image.open("hr/odd.png"))[:-1])
    save_pair("cut", 3)
    Path("hr/cut.png").write_bytes(Path("hr/cut.png").read_bytes()[:900])
    save("lr/grey.png", np.full((90, 120), 77, np.uint8))
    save("hr/grey.png", np.full((180, 240), 77, np.uint8))
    save("lr/alone.png", np.zeros((8, 8, 3), np.uint8))
    assert run("--lr=lr", "--hr=hr", "--output=out") == 1
    faults = {name: row["fault"] for name, row in rows().items()}
    assert faults == {
        "0.png": "",
        "1.png": "",
        "copy.png": "duplicate",
        "cut.png": "unreadable",
        "grey.png": "contrast",
        "odd.png": "sizes",
    }
    err = capfd.readouterr().err
    assert "realsr-wash: hr/cut.png: " in err
    assert "realsr-wash: lr/alone.png: no HR image matches it by name" in err
    assert "Traceback" not in err


def test_resumes_and_judges_anew_without_measuring(capsys):
    for number in range(3):
        save_pair(number, number)
    assert run("--lr=lr", "--hr=hr", "--output=out") == 0
    lines = Path("out/journal.jsonl").read_text().splitlines(keepends=True)
    Path("out/journal.jsonl").write_text(lines[0] + lines[1][:100])
    before = Path("out/pairs.csv").read_text()
    capsys.readouterr()
    assert run("--lr=lr", "--hr=hr", "--output=out") == 0
    assert "measured 2 pairs" in capsys.readouterr().out
    assert Path("out/pairs.csv").read_text() == before
    assert run("--lr=lr", "--hr=hr", "--output=out", "--max_shift=0.001") == 0
    assert "measured" not in capsys.readouterr().out
    assert not listed()


def test_what_was_measured_is_not_lost_to_other_command_lines(capsys):
    for number in range(2):
        save_pair(number, number)
    assert run("--lr=lr", "--hr=hr", "--output=out") == 0
    assert run("--lr=lr", "--hr=hr", "--output=out", "--scale=4") == 0  # no pair has these sizes
    assert run("--lr=lr/*_LR.png", "--hr=hr/*.png", "--output=out") == 0
    capsys.readouterr()
    assert run("--lr=lr", "--hr=hr", "--output=out") == 0
    assert "measured" not in capsys.readouterr().out
    assert listed() == ["0.png", "1.png"]


def test_shards_measure_each_pair_once_and_are_judged_together(capsys):
    for number in range(4):
        save_pair(number, number)
    save_pair("4", 1)  # a duplicate, which no part sees by itself
    save("lr/alone.png", np.zeros((8, 8, 3), np.uint8))
    shares = []
    for part in (2, 1):
        assert run("--lr=lr", "--hr=hr", "--output=out", f"--shard={part}/2") == 0
        captured = capsys.readouterr()
        assert captured.err.count("no HR image matches it by name") == (part == 1)
        shares.append(re.fullmatch(rf"shard {part}/2: (\d) of 5 pairs; .*", captured.out.splitlines()[-1])[1])
    assert sum(map(int, shares)) == 5
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"journal_shard_{part}_of_2.jsonl" for part in (1, 2)
    ]
    assert run("--lr=lr", "--hr=hr", "--output=out") == 1  # as one has no partner
    assert "measured" not in capsys.readouterr().out
    assert len(rows()) == 5
    assert sorted(row["fault"] for row in rows().values() if row["fault"]) == ["duplicate"]
    together = Path("out/pairs.csv").read_text()
    for path in Path("out").iterdir():
        path.unlink()
    assert run("--lr=lr", "--hr=hr", "--output=out") == 1
    assert Path("out/pairs.csv").read_text() == together


def test_a_shard_goes_on_where_its_process_was_lost(capsys):
    for number in range(4):
        save_pair(number, number)
    assert run("--lr=lr", "--hr=hr", "--output=out", "--shard=1/2") == 0
    journal = Path("out/journal_shard_1_of_2.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 2
    journal.write_text(lines[0] + lines[1][:100])
    capsys.readouterr()
    assert run("--lr=lr", "--hr=hr", "--output=out", "--shard=1/2") == 0
    assert "measured 1 pairs" in capsys.readouterr().out
    assert run("--lr=lr", "--hr=hr", "--output=out") == 0
    assert "measured 2 pairs" in capsys.readouterr().out  # those of the other part


def test_unreadable_files_are_read_again(capsys):
    save_pair("0", 0)
    whole = Path("lr/0_LR.png").read_bytes()
    state = Path("lr/0_LR.png").stat()
    Path("lr/0_LR.png").write_bytes(bytes(len(whole)))
    os.utime("lr/0_LR.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert run("--lr=lr", "--hr=hr", "--output=out", "--scale=2") == 1
    Path("lr/0_LR.png").write_bytes(whole)
    os.utime("lr/0_LR.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert run("--lr=lr", "--hr=hr", "--output=out") == 0
    assert listed() == ["0.png"]


def test_washing_twice_gives_the_same_files():
    save_pair("0", seed=0, lr="lr/{}_LR.png", hr="hr/{}.png")
    for number in range(1, 5):
        save_pair(str(number), seed=number, fault="shift" if number % 2 else "", strength=1.0)
    large = np.asarray(Image.open("hr/0.png"))
    for _ in range(2):  # the first pair takes the longest
        large = np.concatenate([large, large[::-1]])
        large = np.concatenate([large, large[:, ::-1]], axis=1)
    save("hr/0.png", large)
    save("lr/0_LR.png", large[::2, ::2])
    left = []
    for output in ("once", "twice"):
        assert run("--lr=lr", "--hr=hr", f"--output={output}", f"--align={output}/aligned") == 0
        files = [path for path in sorted(Path(output).rglob("*")) if path.is_file()]
        left.append({str(path.relative_to(output)): path.read_bytes() for path in files})
    assert left[0].keys() == left[1].keys()
    assert [name for name in left[0] if left[0][name] != left[1][name]] == []
    names = [json.loads(line)["record"]["name"] for line in left[0]["journal.jsonl"].splitlines()]
    assert names == sorted(names)


def test_keep():
    for number in range(4):
        save_pair(number, number, *(("shift", 1 + number) if number % 2 else ()))
    assert run("--lr=lr", "--hr=hr", "--output=out", "--keep=0.75") == 0
    assert listed("rejected") == ["3.png"]


def test_align(capsys):
    save_pair("0", 0)
    save_pair("1", 1, "shift", 2)
    save_pair("2", 2, "gain", 10)
    save_pair("3", 3, "swapped", 1)
    assert run("--lr=lr", "--hr=hr", "--output=out", "--align=out/aligned") == 0
    assert "aligned 2 of 2 pairs" in capsys.readouterr().out
    assert sorted(path.name for path in Path("out/aligned/LR").iterdir()) == ["1.png", "2.png"]
    assert run("--lr=out/aligned/LR", "--hr=out/aligned/HR", "--output=out2") == 0
    assert Path("out2/clean.txt").read_text().split() == ["1.png", "2.png"]
    assert run("--lr=out/aligned/LR", "--hr=out/aligned/HR", "--output=out2", "--align=out/aligned") == 2


@pytest.mark.parametrize(
    "args, message",
    [
        ((), "--lr is missing: name LR images"),
        (("--lr=lr", "--hr=hr"), "--output is missing: name a folder for the results"),
        (("--lr=no", "--hr=hr", "--output=out"), "no: no such folder; expected LR images there"),
        (("--lr=lr", "--hr=hr", "--output=hr/0.png"), "--output=hr/0.png: is a file; name a folder"),
        (("--lr=lr", "--hr=hr", "--output=out", "--keep=0"), "--keep=0 keeps nothing"),
        (("--lr=lr", "--hr=hr", "--output=out", "--keep=1.5"), "--keep=1.5 keeps more than all"),
        (("--lr=lr", "--hr=hr", "--output=out", "--max_shift=far"), "--max_shift"),
        (("--lr=lr", "--hr=hr", "--output=out", "--shard=0/8"), "--shard='0/8' is no part"),
        (("--lr=lr", "--hr=hr", "--output=out", "extra"), "unexpected argument 'extra'"),
        (("--lr=lr", "--hr=other", "--output=out"), "no files of the same name"),
        (("--lr=hr", "--hr=lr", "--output=out"), "--lr=hr holds the larger images; give them as --hr, the "),
        (
            ("--lr=hr", "--hr=hr", "--output=out"),
            "--lr=hr and --hr=hr: hr/0.png would be its own LR; name two",
        ),
    ],
)
def test_wrong_command_lines(args, message, capsys):
    save("lr/0.png", np.zeros((8, 8, 3), np.uint8))
    save("hr/0.png", np.zeros((16, 16, 3), np.uint8))
    save("other/1.png", np.zeros((16, 16, 3), np.uint8))
    assert run(*args) in (1, 2)
    err = capsys.readouterr().err
    assert err.startswith("realsr-wash: ")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_help_explains_every_limit(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    for limit in dataclasses.fields(Limits):
        assert f"--{limit.name}=" in out
        assert f"{limit.metadata['text']} ({limit.default:g})" in out
    assert max(map(len, out.splitlines())) <= 112


def test_missing_opencv_is_named(tmp_path):
    save("lr/0.png", np.zeros((8, 8, 3), np.uint8))
    save("hr/0.png", np.zeros((16, 16, 3), np.uint8))
    code = "import sys; sys.modules['cv2'] = None; from realsr_jax.cli import wash; sys.exit(wash.run())"
    for args, status in ((["--help"], 0), (["--lr=lr", "--hr=hr", "--output=out"], 1)):
        done = subprocess.run(
            [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
    assert (
        done.stderr == "realsr-wash: OpenCV is missing; install it with: pip install opencv-python-headless\n"
    )


def test_records_are_json():
    save_pair("0", 0)
    assert run("--lr=lr", "--hr=hr", "--output=out") == 0
    (line,) = Path("out/pairs.jsonl").read_text().splitlines()
    assert json.loads(line)["verdict"] == "clean"
