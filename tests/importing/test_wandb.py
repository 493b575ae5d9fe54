"""Reading what W&B leaves on disk: files made by hand, piece by piece, and files of the real package."""

import json
import math
import os
import struct
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from finery.core.errors import InvalidSpec
from finery.core.protobuf import bytes_field, double_field, varint_field
from finery.importing import wandb
from tests.conftest import need

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32 * 1024
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def piece(kind: int, data: bytes) -> bytes:
    crc = zlib.crc32(bytes([kind]) + data)
    return struct.pack("<IHB", crc, len(data), kind) + data


def log_of(*records: bytes) -> bytes:
    """As a writer of the format lays records out: a record goes on in the next block where it does not fit."""
    out = bytearray(HEADER)
    for record in records:
        is_first = True
        while True:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left)
                continue
            data, record = record[: left - 7], record[left - 7 :]
            kind = (WHOLE if is_first else LAST) if not record else (FIRST if is_first else MIDDLE)
            out += piece(kind, data)
            is_first = False
            if not record:
                break
    return bytes(out)


def item(name: list[str] | str, value: Any) -> bytes:
    is_nested = isinstance(name, list)
    named = b"".join(bytes_field(2 if is_nested else 1, one.encode()) for one in (name if is_nested else [name]))
    return named + bytes_field(16, json.dumps(value).encode())


def history(step: int, values: dict[str, Any], time: float = 5.0) -> bytes:
    items = [item(["_step"], step), item(["_timestamp"], time), item(["_runtime"], 1.0)]
    items += [item(name.split("."), value) for name, value in values.items()]
    return varint_field(1, 9) + bytes_field(2, b"".join(bytes_field(1, one) for one in items))


def run(*, name: str = "", tags: tuple[str, ...] = (), config: dict[str, Any] | None = None, group: str = "") -> bytes:
    updates = b"".join(bytes_field(1, item(key, value)) for key, value in (config or {}).items())
    facts = [(1, "abc123"), (6, group), (8, name), *((10, tag) for tag in tags)]
    told = b"".join(bytes_field(number, text.encode()) for number, text in facts if text)
    return bytes_field(17, told + bytes_field(4, updates))


def write(folder: Path, content: bytes, name: str = "wandb/offline-run-20260101_000000-abc123") -> Path:
    own = folder / name
    own.mkdir(parents=True)
    file = own / "run-abc123.wandb"
    file.write_bytes(content)
    return file


def rows(path: Path) -> list[tuple[int, dict[str, float]]]:
    [found] = wandb.read(path)
    return [(row.step, dict(row.values)) for row in found.rows]


def test_name_settings_tags_and_metrics_are_read(tmp_path: Path) -> None:
    config = {"lr": 0.1, "_wandb": {}, "model": {"size": 3, "kept": 1}}
    changed = bytes_field(5, bytes_field(1, item(["model", "size"], 4)) + bytes_field(2, item(["lr"], None)))
    told = run(name="a run", tags=("x", "y"), config=config, group="g")
    values = {"loss": 0.5, "train.acc": 1, "done": True, "text": "no", "image": {"_type": "image"}, "n": {"a": 2.0}}
    file = write(tmp_path, log_of(told, history(0, values, time=7.5), changed, history(3, {"loss": 0.25})))

    for path in (tmp_path, tmp_path / "wandb", file.parent, file):
        [found] = wandb.read(path)
        assert wandb.matches(path)
        assert (found.name, found.tags) == ("a run", ("x", "y", "g"))
        assert found.source == f"wandb:{file}"
        assert found.config == {"model": {"size": 4, "kept": 1}}
        first, second = found.rows
        assert (first.step, first.time) == (0, 7.5)
        assert first.values == {"loss": 0.5, "train.acc": 1.0, "done": 1.0, "n.a": 2.0}
        assert (second.step, second.values) == (3, {"loss": 0.25})


def test_values_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    write(tmp_path, log_of(run(), history(1, {"a": math.nan, "b": math.inf, "c": -math.inf})))

    [(_, values)] = rows(tmp_path)

    assert math.isnan(values.pop("a"))
    assert values == {"b": math.inf, "c": -math.inf}


def test_values_in_fields_of_their_own_are_read(tmp_path: Path) -> None:
    typed = {"b": varint_field(4, 1), "i": varint_field(5, 7), "n": double_field(6, 0.5), "t": bytes_field(7, b"x")}
    items = b"".join(bytes_field(1, bytes_field(1, name.encode()) + value) for name, value in typed.items())
    write(tmp_path, log_of(bytes_field(2, items + bytes_field(2, varint_field(1, 12)))))

    assert rows(tmp_path) == [(12, {"b": 1.0, "i": -4.0, "n": 0.5})]  # 7 is -4 in zigzag


@pytest.mark.parametrize("size", [BLOCK - 40, BLOCK - 14, BLOCK - 13, BLOCK - 7, BLOCK, 3 * BLOCK])
def test_a_record_may_cross_blocks(tmp_path: Path, size: int) -> None:
    long = bytes_field(99, bytes(size))
    write(tmp_path, log_of(long, history(1, {"a": 1.0}), long, history(2, {"a": 2.0})))

    assert rows(tmp_path) == [(1, {"a": 1.0}), (2, {"a": 2.0})]


def test_a_torn_end_is_the_end(tmp_path: Path) -> None:
    whole = log_of(run(), history(1, {"a": 1.0}))
    torn = log_of(run(), history(1, {"a": 1.0}), history(2, {"a": 2.0}))
    file = write(tmp_path, whole)

    for kept in range(len(whole), len(torn)):
        file.write_bytes(torn[:kept])
        assert rows(tmp_path) == [(1, {"a": 1.0})]
    file.write_bytes(whole + bytes(5000))
    assert rows(tmp_path) == [(1, {"a": 1.0})]


def test_a_broken_place_in_the_middle_is_named_with_its_byte(tmp_path: Path) -> None:
    begin = len(log_of(run()))
    broken = bytearray(log_of(run(), history(1, {"a": 1.0}), history(2, {"a": 2.0})))
    broken[begin + 9] ^= 1
    write(tmp_path, bytes(broken))

    with pytest.raises(InvalidSpec, match=rf"run-abc123.wandb is broken at byte {begin}: the checksum"):
        rows(tmp_path)


@pytest.mark.parametrize(
    "record",
    [
        bytes_field(2, b"\x0a\x7f"),
        bytes_field(2, bytes_field(1, bytes_field(2, b"a") + bytes_field(16, b"{"))),
        history(2**63, {"a": 1.0}),
        bytes_field(2, bytes_field(1, item(["_step"], None))),
        b"\x0b",
    ],
)
def test_a_whole_record_that_makes_no_sense_is_named(tmp_path: Path, record: bytes) -> None:
    write(tmp_path, log_of(run(), record, history(2, {"a": 2.0})))

    with pytest.raises(InvalidSpec, match="broken at byte .*not one of W&B"):
        rows(tmp_path)


def test_a_link_to_the_latest_run_is_not_a_second_one(tmp_path: Path) -> None:
    file = write(tmp_path, log_of(run()))
    (tmp_path / "wandb" / "latest-run").symlink_to(file.parent)

    assert len(wandb.read(tmp_path)) == 1


def test_a_folder_without_runs_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "run-1.wandb").write_bytes(b"something else")

    assert not wandb.matches(tmp_path)
    with pytest.raises(InvalidSpec, match="name the `wandb` folder"):
        wandb.read(tmp_path)


REAL = """
import math
import wandb
for name, scale in (("first", 1.0), ("second", 2.0)):
    run = wandb.init(mode="offline", dir=".", project="p", name=name, tags=["t"], group="g",
        config={"lr": 1e-3, "model": {"layers": [1, 2]}}, settings=wandb.Settings(console="off", silent=True))
    run.config.update({"late": True})
    for step in range(2000):
        run.log({"train/loss": scale * step, "eval": {"acc": 0.5}, "flag": True, "word": "x"}, step=step)
    run.log({"train/loss": math.nan, "kl": math.inf, "table": wandb.Histogram([1, 2, 3])}, step=2500)
    run.finish()
"""


def test_what_the_real_package_writes_is_read(tmp_path: Path) -> None:
    need("wandb", find_spec("wandb") is not None)
    environment = {**os.environ, "HOME": str(tmp_path), "WANDB_ERROR_REPORTING": "false"}
    done = subprocess.run(
        [sys.executable, "-c", REAL], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr

    runs = wandb.read(tmp_path / "wandb")

    assert {found.name for found in runs} == {"first", "second"}
    for found, scale in zip(sorted(runs, key=lambda one: one.name), (1.0, 2.0), strict=True):
        assert found.config == {"lr": 1e-3, "model": {"layers": [1, 2]}, "late": True}
        assert found.tags == ("t", "g")
        *regular, last = found.rows
        assert [row.step for row in regular] == list(range(2000))
        assert [row.values for row in regular] == [
            {"train/loss": scale * step, "eval.acc": 0.5, "flag": 1.0} for step in range(2000)
        ]
        assert last.step == 2500
        assert set(last.values) == {"train/loss", "kl"}
        assert math.isnan(last.values["train/loss"])
        times = [row.time for row in regular if row.time is not None]
        assert len(times) == 2000
        assert times == sorted(times)
