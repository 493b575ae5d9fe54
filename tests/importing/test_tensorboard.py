"""Reading event files of TensorBoard."""

import math
import struct
from pathlib import Path

import pytest

from finery.core import tfrecords
from finery.core.errors import InvalidSpec
from finery.importing import tensorboard
from tests.importing import peers


def _crc32c(content: bytes) -> int:
    """Bit by bit, so that it shares nothing with what it checks."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _masked(content: bytes) -> bytes:
    crc = _crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _frame(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + _masked(length) + record + _masked(record)


def _varint(number: int) -> bytes:
    number &= 2**64 - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _float(value: float) -> bytes:
    return b"\x15" + struct.pack("<f", value)


def _tensor(dtype: int, content: bytes, shape: bytes | None = b"") -> bytes:
    encoded_shape = b"" if shape is None else _field(2, shape)
    return _field(8, b"\x08" + _varint(dtype) + encoded_shape + content)


def _event(step: int, values: dict[str, bytes], time: float = 100.0) -> bytes:
    summary = b"".join(_field(1, _field(1, tag.encode()) + value) for tag, value in values.items())
    return _frame(b"\x09" + struct.pack("<d", time) + b"\x10" + _varint(step) + _field(5, summary))


def _version() -> bytes:
    return _frame(b"\x09" + struct.pack("<d", 99.0) + _field(3, b"brain.Event:2"))


def _write(folder: Path, *frames: bytes, name: str = "events.out.tfevents.1700000000.host") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_bytes(_version() + b"".join(frames))
    return file


def _values(path: Path) -> list[tuple[int, dict[str, float]]]:
    (run,) = tensorboard.read(path)
    return [(row.step, dict(row.values)) for row in run.rows]


def test_the_checksum_is_that_of_the_standard(tmp_path: Path) -> None:
    assert _crc32c(b"123456789") == 0xE3069283
    assert struct.pack("<I", tfrecords.masked_crc32c(b"123456789")) == _masked(b"123456789")


def test_values_of_one_step_are_one_row(tmp_path: Path) -> None:
    _write(
        tmp_path / "logs",
        _event(1, {"loss": _float(0.5)}, time=101.0),
        _event(1, {"reward": _float(2.0), "kl": _float(0.25)}, time=102.5),
        _event(2, {"loss": _float(0.0)}, time=103.0),
    )

    (run,) = tensorboard.read(tmp_path / "logs")

    assert run.name == "logs"
    assert run.source == f"tensorboard:{tmp_path / 'logs'}"
    assert [(row.step, row.time, row.values) for row in run.rows] == [
        (1, 102.5, {"loss": 0.5, "reward": 2.0, "kl": 0.25}),
        (2, 103.0, {"loss": 0.0}),
    ]


def test_scalars_written_as_tensors_are_read(tmp_path: Path) -> None:
    number = struct.pack("<f", 0.5)
    values = {
        "content": _tensor(1, _field(4, number)),
        "unpacked": _tensor(1, b"\x2d" + number),
        "packed": _tensor(1, _field(5, number)),
        "double": _tensor(2, _field(6, struct.pack("<d", 0.1))),
        "double_content": _tensor(2, _field(4, struct.pack("<d", 0.1)), shape=None),
        "zero": _tensor(1, b""),
    }
    _write(tmp_path, _event(3, values))

    expected = {"content": 0.5, "unpacked": 0.5, "packed": 0.5, "double": 0.1, "double_content": 0.1, "zero": 0.0}
    assert _values(tmp_path) == [(3, expected)]


def test_what_is_no_scalar_is_passed_over(tmp_path: Path) -> None:
    values = {
        "histogram": _field(5, b"\x00" * 5000),
        "text": _tensor(7, _field(8, b"words")),
        "vector": _tensor(1, _field(4, struct.pack("<2f", 1.0, 2.0)), shape=_field(2, b"\x08\x02")),
        "empty": _tensor(1, b"", shape=_field(2, b"\x08\x00")),
    }
    _write(tmp_path, _event(1, values), _frame(b"\x28\x01\x31" + b"\0" * 8 + b"\x3d" + b"\0" * 4))

    assert _values(tmp_path) == []


def test_nan_infinity_and_a_negative_step_are_kept(tmp_path: Path) -> None:
    values = {"a": _float(math.inf), "b": _float(-math.inf), "c": _float(math.nan)}
    _write(tmp_path, _event(-1, values))

    ((step, read),) = _values(tmp_path)

    assert step == -1
    assert (read["a"], read["b"]) == (math.inf, -math.inf)
    assert math.isnan(read["c"])


def test_a_resumed_run_in_a_second_file_replaces_what_it_repeats(tmp_path: Path) -> None:
    _write(tmp_path, *(_event(step, {"loss": _float(step)}) for step in (1, 2, 3)), name="events.out.tfevents.1.a")
    _write(tmp_path, *(_event(step, {"loss": _float(9.0)}) for step in (3, 2)), name="events.out.tfevents.2.a")

    assert _values(tmp_path) == [(1, {"loss": 1.0}), (2, {"loss": 9.0}), (3, {"loss": 9.0})]


def test_each_folder_with_event_files_is_a_run(tmp_path: Path) -> None:
    _write(tmp_path / "b" / "eval", _event(1, {"x": _float(1.0)}))
    _write(tmp_path / "a", _event(1, {"x": _float(2.0)}))
    (tmp_path / "empty").mkdir()

    runs = tensorboard.read(tmp_path)

    assert [run.name for run in runs] == ["a", "b/eval"]
    assert [next(iter(run.rows)).values for run in runs] == [{"x": 2.0}, {"x": 1.0}]


def test_one_event_file_is_one_run(tmp_path: Path) -> None:
    file = _write(tmp_path / "run", _event(1, {"x": _float(1.0)}))
    _write(tmp_path / "run", _event(2, {"x": _float(1.0)}), name="events.out.tfevents.2.b")

    (run,) = tensorboard.read(file)

    assert run.name == "run"
    assert [row.step for row in run.rows] == [1]


def test_an_empty_file_is_a_run_without_rows(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.a").touch()

    assert _values(tmp_path) == []


def test_a_torn_last_record_is_the_end(tmp_path: Path) -> None:
    whole = _version() + _event(1, {"x": _float(1.0)})
    last = _event(2, {"x": _float(2.0)})

    for kept in range(len(last)):
        (tmp_path / "events.out.tfevents.1.a").write_bytes(whole + last[:kept])
        assert _values(tmp_path) == [(1, {"x": 1.0})]


def test_a_last_record_that_reached_the_disk_in_part_is_the_end(tmp_path: Path) -> None:
    last = bytearray(_event(2, {"x": _float(2.0)}))
    last[-8:] = bytes(8)
    _write(tmp_path, _event(1, {"x": _float(1.0)}), bytes(last))

    assert _values(tmp_path) == [(1, {"x": 1.0})]


def test_zeros_after_the_last_record_are_the_end(tmp_path: Path) -> None:
    _write(tmp_path, _event(1, {"x": _float(1.0)}), bytes(5000))

    assert _values(tmp_path) == [(1, {"x": 1.0})]


@pytest.mark.parametrize(("at", "what"), [(0, "record's length"), (8, "record's length"), (20, "of the record does")])
def test_a_broken_record_in_the_middle_is_named_with_its_byte(tmp_path: Path, at: int, what: str) -> None:
    broken = bytearray(_event(1, {"x": _float(1.0)}))
    broken[at] ^= 1
    file = _write(tmp_path, bytes(broken), _event(2, {"x": _float(2.0)}))

    with pytest.raises(InvalidSpec, match=rf"{file.name} is broken at byte {len(_version())}: .*{what}"):
        _values(tmp_path)


@pytest.mark.parametrize(
    "record",
    [b"\x2a\x7f\x00", b"\x0b", b"\xff" * 11, b"\x09\x00", b"\x80", b"\x2a\x07\x0a\x05\x0a\x01\xff\x15\x00"],
)
def test_a_whole_record_that_is_no_event_is_named(tmp_path: Path, record: bytes) -> None:
    _write(tmp_path, _frame(record), _event(2, {"x": _float(2.0)}))

    with pytest.raises(InvalidSpec, match="not an Event"):
        _values(tmp_path)


def test_a_folder_without_event_files_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="tfevents"):
        tensorboard.read(tmp_path)


@peers.needs("tensorboard")
def test_what_tensorboardx_writes_is_read(tmp_path: Path) -> None:
    peers.write(
        "tensorboard",
        """
import numpy as np
from tensorboardX import SummaryWriter
for name, scale in (("first", 1.0), ("second", 2.0)):
    writer = SummaryWriter(f"logs/{name}")
    for step in (0, 2, 1):
        writer.add_scalar("train/loss", scale * step, step, walltime=1000.0 + step)
        writer.add_scalar("train/kl", float("nan") if step == 2 else float("inf"), step, walltime=1000.0 + step)
    writer.add_histogram("weights", np.arange(100.0), 1)
    writer.add_text("notes", "words", 1)
    writer.add_image("image", np.zeros((3, 64, 64)), 1)
    writer.close()
""",
        tmp_path,
    )

    first, second = tensorboard.read(tmp_path / "logs")

    assert [first.name, second.name] == ["first", "second"]
    assert [(row.step, row.time, row.values["train/loss"]) for row in second.rows] == [
        (0, 1000.0, 0.0),
        (1, 1001.0, 2.0),
        (2, 1002.0, 4.0),
    ]
    rows = list(first.rows)
    assert rows[0].values["train/kl"] == math.inf
    assert math.isnan(rows[2].values["train/kl"])
    assert {name for row in rows for name in row.values} == {"train/loss", "train/kl"}


@peers.needs("tensorboard")
def test_tensors_of_the_real_protocol_buffers_are_read(tmp_path: Path) -> None:
    peers.write(
        "tensorboard",
        """
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
writer = EventFileWriter("logs")
for step, value in ((1, 0.25), (2, 0.0)):
    tensor = tensor_pb2.TensorProto(dtype=1, tensor_shape=tensor_shape_pb2.TensorShapeProto(), float_val=[value])
    metadata = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
    )
    summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag="loss", tensor=tensor, metadata=metadata)])
    writer.add_event(event_pb2.Event(wall_time=7.0, step=step, summary=summary))
writer.close()
""",
        tmp_path,
    )

    assert _values(tmp_path / "logs") == [(1, {"loss": 0.25}), (2, {"loss": 0.0})]
