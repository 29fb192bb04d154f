"""Shared by all tests: what imports left behind is kept out of the collector's sight, so that collections are quick;
and Ctrl-C is heard, however the run was started."""

from __future__ import annotations

import gc
import signal

import pytest


def pytest_configure() -> None:
    """What a shell starts in the background has Ctrl-C ignored, and so would have all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Modules, classes and the tests live to the end anyway; walking them in every collection would cost minutes."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _leave_earlier_modules_alone() -> None:
    """The same for what the tests of earlier modules imported (torch alone is hundreds of thousands of objects)."""
    gc.collect()
    gc.freeze()
