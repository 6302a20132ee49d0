"""Devices by name, with memory, and why some are not offered."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from etp.kernels.on_gpu import triton_source
from etp.run import devices, doctor


@pytest.fixture
def two_gpus(monkeypatch):
    cards = {"cuda:0": ("NVIDIA A100", 40 * 10**9), "cuda:1": ("AMD Instinct", 64 * 10**9)}
    monkeypatch.setattr(devices, "_cuda", lambda: cards)
    devices.devices.cache_clear()
    yield
    devices.devices.cache_clear()


def test_gpus_are_listed_by_name_with_their_memory(two_gpus):
    assert list(devices.devices()) == ["cpu", "cuda:0", "cuda:1"]
    assert devices.label("cuda:0") == "NVIDIA A100, 40 GB"
    assert devices.label("cuda:1") == "AMD Instinct, 64 GB"
    assert devices.label("cpu") == devices.devices()["cpu"]
    assert devices.label("cuda:7") == "not on this machine"
    (check,) = [c for c in doctor.checks() if c.what == "devices"]
    assert "cuda:1 (AMD Instinct, 64 GB)" in check.state


def test_an_apple_gpu_is_named_with_the_reason_why_not(monkeypatch):
    assert devices.not_offered() == {} or sys.platform == "darwin"
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert "float64" in devices.not_offered()["mps"]
    with pytest.raises(ValueError, match=r"'mps'.*float64"):
        devices.check_device("mps")
    (check,) = [c for c in doctor.checks() if c.what == "devices"]
    assert "mps (not offered: Apple" in check.state


def test_amd_cards_take_the_plain_form(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    triton_source.triton_missing.cache_clear()
    try:
        assert "NVIDIA" in str(triton_source.triton_missing())
        assert not triton_source.serves("cuda")
    finally:
        monkeypatch.undo()
        triton_source.triton_missing.cache_clear()


def test_torch_is_asked_for_gpus_only_where_a_driver_shows(monkeypatch, tmp_path):
    asked: list[list[str]] = []

    def run(command, **options):
        asked.append(command)
        said = '{"cuda:0": ["AMD Instinct MI300X", 192000000000]}'
        return subprocess.CompletedProcess(command, 0, said + "\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(devices, "DRIVERS", (tmp_path / "kfd",))
    devices._cuda.cache_clear()
    devices.devices.cache_clear()
    try:
        assert list(devices.devices()) == ["cpu"]
        assert not asked
        (tmp_path / "kfd").touch()
        devices._cuda.cache_clear()
        devices.devices.cache_clear()
        # ROCm's torch calls its devices cuda: AMD's cards are listed and measured on as any other.
        assert devices.label("cuda:0") == "AMD Instinct MI300X, 192 GB"
    finally:
        devices._cuda.cache_clear()
        devices.devices.cache_clear()


def test_an_error_that_breaks_a_context_is_told_from_one_that_does_not():
    for text in (
        "CUDA error: device-side assert triggered", "Triton Error [CUDA]: an illegal memory access",
        "CUDA error: unspecified launch failure", "HIP error: invalid device ordinal",
    ):  # fmt: skip
        assert devices.lost_context(f"RuntimeError: {text}")
    for text in ("CUDA out of memory. Tried to allocate 2 GiB", "out of resource: shared memory"):
        assert not devices.lost_context(text)
