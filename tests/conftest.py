"""Strict numerics and no network for every test."""

import os

import pytest
import torch

torch.set_num_threads(1)  # on models this small, threads cost more in waiting than they save; files run side by side
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)
    yield
    torch.set_grad_enabled(True)
