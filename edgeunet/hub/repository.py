"""A repository on the Hugging Face Hub at one commit, and what may travel between it and here.

Only what a manifest lists by its hash travels, and only data: no engines, no reports.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..bundle.bundle import MAX_FILES, is_plain_name
from ..bundle.manifest import Manifest
from ..errors import (
    BundleError,
    EdgeUNetError,
    MissingDependencyError,
    SourceError,
    UsageError,
    first_line,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SUFFIXES = (".json", ".npz", ".onnx", ".safetensors")
"""Files of a bundle that are data. Another, as model.rknn, is code for a driver."""
MAIN = "main"
"""The revision that an address without one means."""
COMMIT = re.compile(r"[0-9a-f]{40}")
_ADDRESS = re.compile(r"hf://(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", re.ASCII)


def parsed(address: str) -> tuple[str, str]:
    """Repository and revision of an address; UsageError if it is none.

    Example:
        >>> from edgeunet.hub.repository import parsed
        >>> parsed("hf://me/cells@v1")
        ('me/cells', 'v1')
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UsageError(
            f"expected an address such as hf://org/name or hf://org/name@v1, got {address!r}."
        )
    return found[1], found[2] or MAIN


@dataclass(frozen=True)
class Remote:
    """A repository as it is at one commit. sizes: bytes of its files, by name."""

    api: HfApi
    repository: str
    address: str
    commit: str
    sizes: dict[str, int]
    failure: type[EdgeUNetError]

    @classmethod
    def at(
        cls,
        api: HfApi,
        repository: str,
        revision: str,
        address: str,
        *,
        failure: type[EdgeUNetError] = SourceError,
    ) -> Remote:
        """Ask the Hub. failure: what is raised if it does not answer."""
        with asking(address, failure):
            info = api.model_info(repository, revision=revision, files_metadata=True)
        commit = str(info.sha)
        if COMMIT.fullmatch(commit) is None:  # it becomes the name of a folder
            raise failure(f"{address}: expected a commit of 40 hex digits, got {commit!r}.")
        sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
        return cls(api, repository, address, commit, sizes, failure)

    def fetch(self, name: str | PurePosixPath, folder: Path, *, most: int) -> int:
        """Fetch a file to its place in a folder, and give its size in bytes.

        Raises:
            BundleError: there is none, or it has more than `most` bytes.
        """
        size = self.sizes.get(str(name))
        if size is None:
            raise BundleError(f"{self.address} lacks {name}. Push the bundle again.")
        if size > most:
            raise BundleError(
                f"{self.address} has {size} bytes in {name}; expected at most {most}. Refused."
            )
        with asking(self.address, self.failure):
            self.api.hf_hub_download(
                self.repository, str(name), revision=self.commit, local_dir=folder
            )
        return size


def check_names(manifest: Manifest, where: str) -> None:
    """Refuse names that leave the folder, files that are code, and too many of them."""
    if len(manifest.files) > MAX_FILES:
        raise BundleError(
            f"{where} lists {len(manifest.files)} files; expected at most {MAX_FILES}. Refused."
        )
    for name in manifest.files:
        if not is_plain_name(name):
            raise BundleError(
                f"{where} names the file {name!r}, which lies outside the bundle. Refused."
            )
        if not name.endswith(SUFFIXES):
            raise BundleError(
                f"{where} lists {name}; expected data alone ({', '.join(SUFFIXES)}). Compiled nets "
                "are code and do not go over the Hub: take the bundle that this one was deployed "
                "from, and deploy it where it runs."
            )


def open_api() -> HfApi:
    """What asks the Hub; MissingDependencyError without huggingface_hub."""
    # Else its requests say which PyTorch is here; huggingface_hub reads it when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingDependencyError("huggingface_hub") from None
    return HfApi()


@contextmanager
def asking(address: str, failure: type[EdgeUNetError]) -> Iterator[None]:
    """Turn errors of the Hub and its library into errors that say what to do."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except (
        httpx2.HTTPError, OSError, RuntimeError, ValueError, errors.XetDownloadError,
    ) as error:  # fmt: skip
        # For a file, the library hides the cause behind advice of its own.
        hidden = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else None
        raise _explained(hidden or error, address, failure) from None


def _explained(error: BaseException, address: str, failure: type[EdgeUNetError]) -> EdgeUNetError:
    """What to raise for an error of the Hub or of its library."""
    from huggingface_hub import errors

    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return failure(
            f"{address} is open only to those who accepted its terms. Accept them on its page, "
            f"and {log_in}."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return failure(
            f"{address} does not exist, or is private. Check the name; for a private one {log_in}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(
            f"{address} has no such revision. Pass a branch, a tag or a commit of it."
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return failure(f"{address} was not asked for: HF_HUB_OFFLINE forbids it. Unset that first.")
    if isinstance(error, errors.HfHubHTTPError):
        refused = error.response.status_code in (401, 403)
        advice = f"This needs a token that permits it: {log_in}." if refused else "Try again later."
        return failure(f"the Hub refused {address}: {first_line(error)}. {advice}")
    return failure(
        f"no transfer of {address}: {first_line(error)}. Check the network, then try again."
    )
