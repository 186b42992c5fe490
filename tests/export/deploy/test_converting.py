"""What converters share: their failures are told in one line, and their warnings are not."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch

from edgeunet.errors import ExportError, UsageError
from edgeunet.exporting.deploy.converting import converting


def test_failures_of_a_converter_are_told_in_one_line() -> None:
    message = r"Foo 1 does not take the graph int8: KeyError: 'x' Deploy another flavour, or --to o"
    with pytest.raises(ExportError, match=message), converting("Foo 1", "int8"):
        raise KeyError("x")
    with pytest.raises(UsageError, match="own"), converting("Foo 1", "int8"):
        raise UsageError("own")
    with pytest.raises(OSError, match="No space left"), converting("Foo 1", "int8"):
        raise OSError(28, "No space left")


def test_warnings_and_gradients_come_back_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    with converting("Foo 1", "fp32"):
        warnings.warn("of a library", FutureWarning, stacklevel=1)
        logging.getLogger("library").warning("of a library")
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    with pytest.raises(FutureWarning):
        warnings.warn("ours", FutureWarning, stacklevel=1)
    logging.getLogger("library").warning("ours")
    assert [record.message for record in caplog.records] == ["ours"]
