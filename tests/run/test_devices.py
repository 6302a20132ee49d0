"""Devices by name, with memory, and why some are not offered."""

from __future__ import annotations

import platform
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
    assert "cuda:1 (AMD Instinct, 64 GB)" in check.found


def test_an_apple_gpu_is_named_with_the_reason_why_not(monkeypatch):
    assert devices.not_offered() == {} or sys.platform == "darwin"
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert "float64" in devices.not_offered()["mps"]
    with pytest.raises(ValueError, match=r"'mps'.*float64"):
        devices.check_device("mps")
    (check,) = [c for c in doctor.checks() if c.what == "devices"]
    assert "mps (not offered: Apple" in check.found


def test_amd_cards_take_the_plain_form(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    triton_source.triton_missing.cache_clear()
    try:
        assert "NVIDIA" in str(triton_source.triton_missing())
        assert not triton_source.serves("cuda")
    finally:
        monkeypatch.undo()
        triton_source.triton_missing.cache_clear()
