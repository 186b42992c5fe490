"""Inputs of several images, as folders, archives and tables, and shards that are read back."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from edgeunet.data.cells import snapshots
from edgeunet.metrics import Mask
from edgeunet.runtime import Segmenter


def flat(value: int) -> bytes:
    """A small PNG of one gray."""
    return cv2.imencode(".png", np.full((4, 6, 3), value, np.uint8))[1].tobytes()


def cell_images(count: int) -> dict[str, bytes]:
    """PNGs of cells at the tiny net's size, by name."""
    frames = snapshots(count, height=64, width=96, seed=5)
    return {
        f"{index}.png": cv2.imencode(".png", frame.image[..., ::-1])[1].tobytes()
        for index, frame in enumerate(frames)
    }


def tar_of(path: Path, members: Mapping[str, bytes]) -> Path:
    """A tar archive, compressed if its name says so."""
    mode = "w:gz" if path.suffix in (".gz", ".tgz") else "w"
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, members: Mapping[str, bytes]) -> Path:
    """A ZIP archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def folder_of(path: Path, files: Mapping[str, bytes]) -> Path:
    """A folder of files."""
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def table_of(path: Path, *, group: int = 2, **columns: list[Any]) -> Path:
    """A Parquet table with row groups of so many rows."""
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def shard(path: Path) -> dict[str, tuple[Mask, dict[str, Any]]]:
    """Mask and record of each key of a shard, read as WebDataset does: by the first dot."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as file:
        for member in file:
            folder, _, name = member.name.rpartition("/")
            key, _, end = name.partition(".")
            content = file.extractfile(member)
            assert content is not None
            sample = found.setdefault(f"{folder}/{key}".lstrip("/"), {})
            assert end not in sample, f"{key} is there twice"
            sample[end] = content.read()
    return {
        key: (np.array(Image.open(io.BytesIO(sample["png"]))), json.loads(sample["json"]))
        for key, sample in found.items()
    }


def areas(segmenter: Segmenter, frame: np.ndarray[Any, Any]) -> list[int]:
    """Pixels of three classes; here, because processes that are spawned import no test."""
    return np.bincount(segmenter([frame]).masks.ravel(), minlength=3).tolist()
