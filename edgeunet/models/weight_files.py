"""Files of weights: what each is, and its content, read without running code.

This is the only module that opens files of weights. Nothing is unpickled except through
`torch.load(weights_only=True)`, and only once `_check_pickles` has read every class that a file
names.
"""

from __future__ import annotations

import io
import pickletools
import re
import stat
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError, printable

EXPANSION = 10
"""An archive may hold so many times the bytes of its file; PyTorch does not compress."""

LARGEST_PICKLE = 2**24
"""Bytes of the part of a file that describes the tensors. Ten thousand tensors take 2 MB."""

_EXPECTED = "Expected .safetensors, or a PyTorch state dict without any code in it."
_SAVE = "Where it was made, save the weights alone: torch.save(net.state_dict(), 'weights.pth')."
_HEAD = 512  # bytes that tell a format

# What a file is that begins so, and what to do.
_OTHER_FILES = (
    (rb"version https://git-lfs", "a Git LFS pointer", "Run `git lfs pull` in its repository."),
    (
        rb"\s*<(!doctype|html|head|body|\?xml)",
        "a web page",
        "Download the file that the page offers, not the page.",
    ),
    (rb"\s*[\[{]", "JSON", "Pass the file with the weights; of a sharded checkpoint, merge them."),
    (rb"\x89HDF\r\n", "an HDF5 file, as Keras writes them", _EXPECTED),
    (
        rb"\x08[\x01-\x7f][\x12\x1a\x22\x2a\x32\x3a\x42]",
        "an ONNX graph",
        "Pass the checkpoint that it was exported from.",
    ),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!|.{257}ustar",
        "a compressed file or an archive",
        "Unpack it, and pass the weights inside.",
    ),
)

# What describes tensors and plain values. PyTorch allows more, which could fill the memory: its
# names for tensors on other devices and for bytearrays.
_PLAIN = re.compile(
    r"collections\.(OrderedDict|Counter)|builtins\.(set|complex)|_codecs\.encode"
    r"|torch\.(\w*Storage|Size|device|Tensor|bool|per_\w+|(bfloat|float|complex|q?u?int)\d\w*)"
    r"|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\.nn\.parameter\.Parameter"
    r"|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\._utils\._rebuild_(parameter|tensor|meta_tensor|sparse_tensor|qtensor)\w*"
    r"|torch\.serialization\._get_layout"
)
# What training code saves beside the weights. `_Beside` stands for these, so that none of it runs.
_BESIDE = (
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.dtype",
    "numpy.ndarray",
    "argparse.Namespace",
)
# Python 2's names, which pickles of protocol 2 use.
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# NumPy's values hold their bytes as text for this function. It can also double its input.
_ENCODE = "_codecs.encode"
_DOUBLING = re.compile(r"(base_?64|bz2|hex|quopri|quoted_?printable|uu|zip|zlib)(_codec)?", re.I)
_ENCODED = 2**28  # bytes that it may make
_PROTOCOL = 2
_LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_loading = threading.Lock()  # PyTorch's list of allowed classes belongs to the process


class _Beside:
    """Stands for a value beside the weights, and keeps nothing of it."""

    def __new__(cls, *arguments: object) -> _Beside:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def read_weight_file(path: Path) -> Mapping[Any, Any]:
    """What a file of weights holds: a state dict, or what training code saved around it.

    The content tells the format, not the suffix. Memory stays below `EXPANSION` times the file's
    size, and tensors have no more elements than their bytes in the file.

    Raises:
        CheckpointError: no such file; another kind of file, named; one that holds code; damaged.

    Example:
        >>> from pathlib import Path; import torch
        >>> from edgeunet.models.weight_files import read_weight_file
        >>> torch.save({"epoch": 3, "net": {"weight": torch.zeros(2)}}, "net.pth")
        >>> sorted(read_weight_file(Path("net.pth")))
        ['epoch', 'net']
    """
    size = _size_of(path)
    with _open(path) as file:
        head = file.read(_HEAD)
        if _is_safetensors(head, size):
            content: Any = _from_safetensors(path)
        else:
            _refuse_other_files(path, head)
            content = _from_pytorch(path, file, size)
    if not isinstance(content, Mapping):
        if isinstance(content, _Beside):
            raise _code_in(path, ["a class"])
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a state dict.")
    return content


def check_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not stored densely, or that claim more than the file holds.

    Raises:
        CheckpointError: names the first one.
    """
    total, size = 0, path.stat().st_size
    for name, tensor in tensors.items():
        if kind := _unfit(tensor):
            raise _wrong_kind(path, name, kind)
        total += tensor.numel() * tensor.element_size()
        # Twice: a file may hold one tensor under two names.
        if total > 2 * size or _overlaps(tensor):
            raise CheckpointError(
                f"{path} is damaged: {printable(name)} claims {tuple(tensor.shape)}, which is more "
                f"than its bytes in the file. {_EXPECTED}"
            )


def check_types(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """CheckpointError if layers hold integers, or floats that need a scale, such as FP8."""
    for name, tensor in tensors.items():
        if "." in name and tensor.ndim and tensor.dtype not in _FLOATS:
            raise _wrong_kind(path, name, str(tensor.dtype).removeprefix("torch."))


def _wrong_kind(path: Path, name: str, kind: str) -> CheckpointError:
    return CheckpointError(
        f"{path} holds {printable(name)} as a {kind} tensor; expected FP32, FP16 or BF16. {_SAVE}"
    )


def _unfit(tensor: Tensor) -> str | None:
    """How a tensor is stored instead of densely; None if it is dense."""
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantized"
    return "meta" if tensor.is_meta else None  # a shape without values


def _overlaps(tensor: Tensor) -> bool:
    """Whether elements share memory, as with a stride of 0."""
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _size_of(path: Path) -> int:
    """Bytes of a file, which must be a regular one: reading a pipe may never end."""
    try:
        status = path.stat()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        missing = isinstance(error, FileNotFoundError)
        raise CheckpointError(
            f"{path} does not exist." if missing else f"{path} cannot be read: {reason}."
        ) from None
    if stat.S_ISDIR(status.st_mode):
        raise CheckpointError(
            f"{path} is a directory; expected one file. Pass the file inside that holds the "
            "weights; merge a sharded checkpoint into one file first."
        )
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{path} is not a file. {_EXPECTED}")
    if status.st_size == 0:
        raise CheckpointError(f"{path} is empty. Copy or download it again.")
    return status.st_size


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None


def _refuse_other_files(path: Path, head: bytes) -> None:
    """CheckpointError that names what a file is, if it is no weights."""
    for start, kind, remedy in _OTHER_FILES:
        if re.match(start, head, re.DOTALL | re.IGNORECASE):
            raise CheckpointError(f"{path} is {kind}, not the weights themselves. {remedy}")


def _is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file begins with the length of its header, and then the header, which is JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def _from_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # damage raises several unrelated classes
        raise _damaged(path, error) from None


def _from_pytorch(path: Path, file: IO[bytes], size: int) -> Any:
    """What `torch.save` wrote: a zip archive, or, before PyTorch 1.6, several pickles in a row."""
    try:
        if zipfile.is_zipfile(file):
            _check_pickles(path, _archived_pickle(path, file, size), count=1)
        else:
            file.seek(0)
            _check_pickles(path, file, count=_LEGACY_PICKLES)
        file.seek(0)
        with (
            _loading,
            warnings.catch_warnings(),
            torch.serialization.safe_globals([(_Beside, name) for name in _BESIDE]),
        ):
            warnings.simplefilter("ignore")  # what PyTorch says of its own formats
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file raises almost anything
        raise _damaged(path, error) from None


def _archived_pickle(path: Path, file: IO[bytes], size: int) -> IO[bytes]:
    """The pickle in an archive of PyTorch's, small enough to be read."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename.rpartition("/")[2]: entry for entry in archive.infolist()}
        paths = [entry.filename for entry in archive.infolist()]
        if len(set(paths)) < len(paths) or sum(map(_is_data, paths)) > 1:
            raise ValueError("it holds two files of one name")
        if "constants.pkl" in entries:
            raise CheckpointError(
                f"{path} is TorchScript: it holds code, not weights alone. {_SAVE}"
            )
        if "data.pkl" not in entries:
            raise CheckpointError(
                f"{path} is a zip archive without PyTorch's data.pkl. Pass the weights inside it. "
                f"{_EXPECTED}"
            )
        if sum(entry.file_size for entry in archive.infolist()) > EXPANSION * size:
            raise CheckpointError(
                f"{path} is compressed to less than a tenth; PyTorch does not compress. {_EXPECTED}"
            )
        return io.BytesIO(archive.read(entries["data.pkl"]))


def _is_data(name: str) -> bool:
    return name.rpartition("/")[2] == "data.pkl"


def _check_pickles(path: Path, stream: IO[bytes], *, count: int) -> None:
    """Refuse pickles that name a class that weights do not need; nothing is loaded.

    Raises:
        CheckpointError: the names, or text that could fill the memory.
    """
    unknown: list[str] = []
    encodes, doubles, calls, longest = False, False, 0, 0
    damage: ValueError | None = None
    try:
        for operation, argument in _operations(path, stream, count):
            if operation == "GLOBAL":
                name = _full_name(argument)
                encodes |= name == _ENCODE
                if not (_PLAIN.fullmatch(name) or name in _BESIDE or name in unknown):
                    unknown.append(name)
            elif operation == "REDUCE":
                calls += 1
            elif isinstance(argument, (str, bytes)):
                longest = max(longest, len(argument))
                doubles |= isinstance(argument, str) and bool(_DOUBLING.fullmatch(argument))
    except ValueError as error:
        damage = error
    if unknown:
        raise _code_in(path, unknown)
    if damage:
        raise damage
    if encodes and (doubles or calls * longest > _ENCODED):
        raise CheckpointError(f"{path} encodes text that could fill the memory. {_SAVE}")


def _operations(path: Path, stream: IO[bytes], count: int) -> Iterator[tuple[str, Any]]:
    """Names and arguments of the operations of the next pickles; ValueError if one is damaged."""
    first = stream.tell()
    for _ in range(count):
        for operation, argument, _at in pickletools.genops(stream):
            if operation.name == "PROTO" and argument != _PROTOCOL:
                raise CheckpointError(
                    f"{path} is a pickle of protocol {argument}; expected {_PROTOCOL}, as "
                    f"torch.save writes it. {_SAVE}"
                )
            if stream.tell() - first > LARGEST_PICKLE:
                raise CheckpointError(
                    f"{path} has more than {LARGEST_PICKLE} bytes beside its tensors. {_SAVE}"
                )
            yield operation.name, argument


def _full_name(argument: str) -> str:
    module, _, name = argument.partition(" ")
    return f"{_RENAMED.get(module, module)}.{name}"


def _code_in(path: Path, names: list[str]) -> CheckpointError:
    listed = ", ".join(printable(name[:80]) for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return CheckpointError(
        f"{path} holds code ({listed}{more}), not weights alone, and code in files is never run. "
        f"{_SAVE}"
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    """An error with the first line of what a library said, without its advice."""
    said = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    lines = [line for line in said.splitlines() if line.strip()]
    reason = printable(lines[0][:200]).rstrip(".") if lines else type(error).__name__
    if "weights_only" in reason or "Weights only" in reason:
        reason = "it is damaged"
    return CheckpointError(f"{path} cannot be read as weights: {reason}. {_EXPECTED}")
