"""Every spelling that people use finds its device, and every device is complete."""

import re
from dataclasses import asdict
from pathlib import Path

import orjson
import pytest

from finery.core.errors import InvalidSpec
from finery.planner import accelerators
from finery.planner.accelerators import Accelerator, find, names

DATA = Path(accelerators.__file__).parent / "data" / "accelerators.json"
PEAKS = ("bf16", "fp16", "fp32", "fp8", "int8")
DEVICES = [find(name) for name in names()]


@pytest.mark.parametrize(
    ("spellings", "device"),
    [
        ("A100|NVIDIA A100|A100-80G|A100_80GB|a100 80 gb|A100-SXM4-80GB|NVIDIA A100-SXM4-80GB", "a100-sxm-80"),
        ("A100-40GB|A100_40GB|A100-SXM4-40GB|NVIDIA A100-SXM4-40GB|A100 40G", "a100-sxm-40"),
        ("NVIDIA A100 80GB PCIe|A100-PCIE-80GB|A100 PCIe", "a100-pcie-80"),
        ("NVIDIA A100-PCIE-40GB|A100 40GB PCIe", "a100-pcie-40"),
        ("A800-80GB|A800|NVIDIA A800-SXM4-80GB", "a800-sxm-80"),
        ("NVIDIA A800 80GB PCIe", "a800-pcie-80"),
        ("V100|Tesla V100-SXM2-32GB|V100-32GB", "v100-sxm-32"),
        ("Tesla V100-PCIE-16GB|V100 PCIe 16GB", "v100-pcie-16"),
        ("T4|Tesla T4|T4-16GB", "t4"),
        ("A10|NVIDIA A10|A10-24GB|A10 24G", "a10"),
        ("A10G|NVIDIA A10G|A10G-24GB", "a10g"),
        ("3090|RTX3090-24GB|NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("4090|RTX 4090|rtx_4090|NVIDIA GeForce RTX 4090|4090-24GB", "rtx-4090"),
        ("A6000|RTX A6000|NVIDIA RTX A6000", "rtx-a6000"),
        ("1080 Ti|NVIDIA GeForce GTX 1080 Ti|GTX1080Ti-11GB", "gtx-1080-ti"),
        ("2080 Ti|NVIDIA GeForce RTX 2080 Ti|rtx_2080_ti", "rtx-2080-ti"),
        ("Quadro RTX 8000|RTX 8000", "quadro-rtx-8000"),
        ("3060|RTX 3060 12GB|NVIDIA GeForce RTX 3060", "rtx-3060"),
        ("3080|RTX 3080 10GB|NVIDIA GeForce RTX 3080", "rtx-3080"),
        ("3080 Ti|RTX 3080 Ti 12GB|NVIDIA GeForce RTX 3080 Ti", "rtx-3080-ti"),
        ("A4000|RTX A4000 16GB|NVIDIA RTX A4000", "rtx-a4000"),
        ("A5000|RTX A5000 24GB|NVIDIA RTX A5000", "rtx-a5000"),
        ("Jetson AGX Orin 64GB|Orin 64GB", "jetson-agx-orin-64"),
        ("RTX 4060 Ti 16GB|4060Ti-16G", "rtx-4060-ti-16"),
        ("4070|NVIDIA GeForce RTX 4070|RTX 4070 12GB", "rtx-4070"),
        ("RTX 4070 Ti SUPER|4070 ti super 16gb", "rtx-4070-ti-super"),
        ("4080|NVIDIA GeForce RTX 4080|RTX 4080 16GB", "rtx-4080"),
        ("RTX 4080 SUPER|4080 super", "rtx-4080-super"),
        ("5070 Ti|NVIDIA GeForce RTX 5070 Ti", "rtx-5070-ti"),
        ("5080|NVIDIA GeForce RTX 5080|RTX 5080 16GB", "rtx-5080"),
        ("L4|NVIDIA L4", "l4"),
        ("L40S|NVIDIA L40S|L40S-48GB|l40s 48g", "l40s"),
        ("H100|H100_80GB|H100-80GB|NVIDIA H100 80GB HBM3|H100 (8 per host)", "h100-sxm-80"),
        ("NVIDIA H100 PCIe|H100-PCIE-80GB", "h100-pcie-80"),
        ("H200|NVIDIA H200|H200 141GB", "h200-sxm-141"),
        ("H20|H20-96GB", "h20-96"),
        ("B200|NVIDIA B200|B200-180GB", "b200-180"),
        ("GB200|NVIDIA GB200", "gb200-186"),
        ("B300|NVIDIA B300 SXM6 AC", "b300-288"),
        ("MI300X|AMD Instinct MI300X|MI300X-192GB", "mi300x"),
        ("Ascend 910B|910B|Ascend910B3|910B-64G", "ascend-910b3"),
        ("910B-32G|Ascend910B4", "ascend-910b4"),
        ("Ascend910|910A", "ascend-910a"),
        ("M3 Max|Apple M3 Max|M3 Max 64GB|M3Max-64GB", "apple-m3-max"),
        ("TPU v5e|tpu-v5e|Google TPU v5e", "tpu-v5e"),
        ("CPU|cpu|CPU 256GB", "cpu-generic"),
    ],
)
def test_spellings_find_the_same_device(spellings: str, device: str) -> None:
    assert {find(name).id for name in spellings.split("|")} == {device}


@pytest.mark.parametrize("name", ["RTX 4060 Ti", "RTX 3080 12GB", "RTX 4060 Ti 8GB", "Jetson AGX Orin 32GB"])
def test_a_card_of_another_memory_is_not_taken_for_the_listed_one(name: str) -> None:
    with pytest.raises(InvalidSpec, match="did you mean"):
        find(name)


def test_no_spelling_belongs_to_two_devices() -> None:
    owners: dict[str, set[str]] = {}
    for device in DEVICES:
        for spelling, _ in accelerators._spellings(device):
            owners.setdefault(spelling, set()).add(device.id)
    assert {spelling: ids for spelling, ids in owners.items() if len(ids) > 1} == {}


def test_every_name_and_alias_and_id_finds_its_device() -> None:
    for device in DEVICES:
        assert {find(one).id for one in (device.id, device.name, *device.aliases)} == {device.id}


def test_ids_and_names_are_unique() -> None:
    assert len({one.id for one in DEVICES}) == len(set(names())) == len(names())


@pytest.mark.parametrize("device", DEVICES, ids=lambda one: one.id)
def test_a_device_is_complete_and_positive(device: Accelerator) -> None:
    for field, value in asdict(device).items():
        assert not isinstance(value, (int, float)) or isinstance(value, bool) or value > 0, field
    assert device.source
    assert (device.link is None) == (device.link_gb_s is None)
    assert device.uncertain or any(getattr(device, peak) for peak in PEAKS)
    assert device.context_gib * 2**30 < device.total_bytes


@pytest.mark.parametrize("device", DEVICES, ids=lambda one: one.id)
def test_what_is_usable_is_never_more_than_the_nominal_size(device: Accelerator) -> None:
    assert device.usable_gib is None or device.usable_gib <= device.memory_gib * 1.01
    assert device.total_bytes <= device.memory_gib * 1.01 * 2**30


def test_the_number_in_the_name_chooses_the_size_of_unified_memory() -> None:
    small, big = find("M3 Max"), find("M3 Max 128GB")
    assert (small.memory_gib, small.usable_gib, big.memory_gib, big.usable_gib) == (36, 27, 128, 96)
    assert (big.name, big.bf16) == ("Apple M3 Max 128GB", small.bf16)
    assert find("M2 16GB").usable_gib == 10.7
    assert find("cpu 512 GB").memory_gib == 512


def test_the_usual_memory_of_an_apple_chip_follows_the_rule_of_its_other_sizes() -> None:
    for device in DEVICES:
        if device.vendor == "apple":
            expected = device.memory_gib * accelerators._metal_share(device.memory_gib)
            assert device.usable_gib == pytest.approx(expected, abs=0.05)


def test_total_bytes_is_what_the_driver_reports_and_a_share_of_the_nominal_size_where_nobody_knows() -> None:
    assert find("RTX 4090").total_bytes == round(23.64 * 2**30)
    unknown = find("TPU v5e")
    assert unknown.usable_gib is None
    assert unknown.total_bytes == round(16 * 0.985 * 2**30)


def test_an_unknown_name_gets_at_most_three_near_ones_and_the_way_out() -> None:
    with pytest.raises(InvalidSpec) as caught:
        find("A100-96GB")
    message = str(caught.value)
    near = re.split(r", | or ", message.partition("did you mean ")[2].partition("?")[0])
    assert 1 <= len(near) <= 3
    assert near[0] == "NVIDIA A100 SXM4 80GB"
    assert set(near) <= set(names())
    assert "'A100-96GB' is not known" in message
    assert "name the listed one that is nearest" in message


def test_a_name_that_is_like_no_other_gets_examples_that_exist() -> None:
    with pytest.raises(InvalidSpec, match=r"names look like (.+)\. For") as caught:
        find("???")
    examples = re.search(r"look like (.+?)\. For", str(caught.value))
    assert examples is not None
    assert all(find(one) for one in re.split(r", | or ", examples[1]))


def test_what_is_certain_has_a_source_that_can_be_looked_up() -> None:
    for device in DEVICES:
        assert device.uncertain or re.search(r"https?://|github\.com/", device.source), device.id


def test_the_file_has_one_device_per_line_with_the_keys_in_one_order() -> None:
    first, *lines, last = DATA.read_text("utf-8").splitlines()
    assert (first, last, len(lines)) == ("[", "]", len(DEVICES))
    assert {tuple(orjson.loads(line.rstrip(","))) for line in lines} == {tuple(Accelerator.__dataclass_fields__)}
