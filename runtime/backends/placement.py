"""Sessions of ONNX Runtime on a provider, which never go to the CPU without a word."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import Exported, Flavour, flavour_file
from edgeunet.doctor import cores
from edgeunet.errors import (
    BackendError,
    GraphError,
    MissingDependencyError,
    UsageError,
    first_line,
)
from edgeunet.native_output import stderr_to, stdout_to_stderr

from ..options import LoadOptions
from .providers import PROVIDERS, Provider, find_provider

try:
    import onnxruntime
except ImportError:
    raise MissingDependencyError("onnxruntime", "cpu") from None

CPU = "CPUExecutionProvider"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placement:
    """Where a net runs: a provider of ONNX Runtime, and what chooses its options.

    device: index among the provider's devices. threads: of the CPU. emulated: whether an emulator
    of its hardware does as well, so that no warning tells of it.
    """

    name: str
    precision: Exported
    device: int = 0
    threads: int = 1
    emulated: bool = False

    @classmethod
    def of(cls, bundle: Bundle, options: LoadOptions) -> Placement | None:
        """Where options put a bundle; None on ONNX Runtime's own CPU.

        Raises:
            UsageError: the provider does not compute in the bundle's precision, or has no devices
            to choose from and one was chosen.
        """
        name, device = options.provider, options.device
        if name in (None, "cpu"):
            if device is not None:
                raise UsageError(
                    f"device is {device}, but ONNX Runtime runs on the CPU. Pass --provider too, "
                    "such as cuda, or leave the device out."
                )
            return None
        provider = find_provider(name)
        if device is not None and not provider.takes_device:
            raise UsageError(
                f"device is {device}, but provider {name} has no devices to choose from. Leave it "
                "out."
            )
        precision = bundle.manifest.precision
        if precision not in provider.graphs:
            files = bundle.manifest.files
            held = [each for each, graph in provider.graphs.items() if flavour_file(graph) in files]
            advice = (
                f"Pass --precision {held[-1]}."
                if held
                else f"Export the bundle with --{next(iter(provider.graphs))}."
            )
            why = f": {provider.refuses}" if provider.refuses else ""
            raise UsageError(
                f"provider {name} does not compute in {precision.upper()}{why}. {advice}"
            )
        return cls(name, cast(Exported, precision), device or 0, options.threads or cores())

    @property
    def provider(self) -> Provider:
        """What is known of the provider."""
        return PROVIDERS[self.name]

    @property
    def flavour(self) -> Flavour:
        """The graph that it gets."""
        return self.provider.graphs[self.precision]

    def open(self, content: bytes, options: Any) -> Any:
        """A session of a graph on the provider. If that fails, so does the session.

        Args:
            options: ONNX Runtime's `SessionOptions`, for this session alone.

        Raises:
            BackendError: the provider is missing or cannot be started here, and why.
        """
        if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
            raise BackendError(
                f"expected ONNX Runtime 1.24.1 or newer, which tells what provider {self.name} "
                f"computes, got {onnxruntime.__version__}. Update it, or leave out --provider."
            )
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        with self._telling():
            given = self._prepare(options, content, {})
            # Without the fallback it raises, here and while it runs.
            session = onnxruntime.InferenceSession(content, options, enable_fallback=0, **given)
            if self.provider.title not in session.get_providers():
                raise self._failed("ONNX Runtime left it out")
        return session

    def compiled(
        self, content: bytes, settings: Mapping[str, str], *, log: IO[bytes] | None = None
    ) -> bytes:
        """A graph with what the provider compiled of it: an ONNX file that needs no other.

        Args:
            settings: the provider's own, beside those of a session. log: gets all that the compiler
                says.

        Raises:
            BackendError: the provider is missing. GraphError: it does not compile the graph, and
            why.
        """
        options = onnxruntime.SessionOptions()
        with ExitStack() as stack:
            if log is not None:
                stack.enter_context(stderr_to(log))
            stack.enter_context(self._telling())
            self._prepare(options, content, settings)
            if log is not None:
                options.log_severity_level = 0
            try:
                compiler = onnxruntime.ModelCompiler(
                    options, content, embed_compiled_data_into_model=True
                )
                written: bytes = compiler.compile_to_bytes()
            except Exception as error:  # as in `_telling`
                reason = first_line(error, most=400)
                raise GraphError(f"provider {self.name} does not compile it: {reason}") from error
        return written

    def _prepare(self, options: Any, content: bytes, settings: Mapping[str, str]) -> dict[str, Any]:
        """Put the provider into options; what else `InferenceSession` is to be given."""
        provider = self.provider
        for name, value in (("log_severity_level", 4), *provider.session):
            setattr(options, name, value)
        chosen = {**provider.settings(self.device, self.threads, self.precision), **settings}
        if provider.one_image:
            for side in _open_sides(content):
                options.add_free_dimension_override_by_name(side, 1)
        if provider.is_built_in and not provider.is_plugin:
            _load_libraries(provider)
            return {"providers": [(provider.title, chosen)]}
        options.add_provider_for_devices([self._plugged_in()], chosen)
        return {}

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Keep ONNX Runtime and its plug-ins from printing; say in an error what they raise."""
        with _quiet(), stdout_to_stderr():
            try:
                yield
            except (BackendError, GraphError):
                raise
            except Exception as error:  # ONNX Runtime raises several unrelated classes
                raise self._failed(first_line(error, most=400)) from error

    def check(self, sessions: Sequence[Any]) -> None:
        """Log a warning if the CPU computes some nodes of a net.

        Raises:
            BackendError: it computes all of them.
        """
        here, elsewhere = Counter[str](), Counter[str]()
        for session in sessions:
            for part in session.get_provider_graph_assignment_info():
                counts = here if part.ep_name == self.provider.title else elsewhere
                counts.update(node.op_type for node in part.get_nodes())
        total = here.total() + elsewhere.total()
        if not here:
            raise BackendError(
                f"provider {self.name} takes none of the net's {total} nodes: ONNX Runtime would "
                "compute all on the CPU. Leave out --provider, or pass another --precision."
            )
        if elsewhere:
            most = ", ".join(f"{count} {kind}" for kind, count in elsewhere.most_common(3))
            _log.warning(
                "provider %s computes %d of the net's %d nodes, the CPU the others (%s%s).",
                self.name,
                here.total(),
                total,
                most,
                ", …" if len(elsewhere) > 3 else "",
            )

    def _plugged_in(self) -> Any:
        """The plug-in's device to run on."""
        provider = self.provider
        if not provider.is_installed:
            known = {each.title: name for name, each in PROVIDERS.items()} | {CPU: "cpu"}
            there = onnxruntime.get_available_providers()
            raise BackendError(
                f"ONNX Runtime {onnxruntime.__version__} has no provider {self.name} here, only "
                f"{', '.join(known[each] for each in there if each in known)}. {provider.advice}"
            )
        library = importlib.import_module(str(provider.plugin)).get_library_path()
        try:
            onnxruntime.register_execution_provider_library(provider.title, library)
        except Exception as error:  # as above
            if "already registered" not in str(error):
                raise
        found = [
            each
            for kind in provider.devices
            for each in onnxruntime.get_ep_devices()
            if (each.ep_name, each.device.type.name) == (provider.title, kind)
        ]
        if not found:
            raise self._failed(f"it finds no {' or '.join(provider.devices)} that it can run on")
        if self.device >= len(found):
            raise self._failed(f"expected a device {self.device}, it finds {len(found)}")
        kind = found[self.device].device.type.name
        if kind != provider.devices[0] and not self.emulated:
            problem = provider.problem()
            _log.warning(
                "provider %s finds no %s%s; it computes on a %s.",
                self.name,
                provider.devices[0],
                "" if problem is None else f" ({problem})",
                kind,
            )
        return found[self.device]

    def _failed(self, reason: str) -> BackendError:
        """An error with all reasons why the provider cannot be started, and what to do."""
        # Both name the library that is missing; the latter does so behind ONNX Runtime's own words.
        reasons = [_missing_library(self.provider) or reason.rsplit("with error: ", 1)[-1]]
        if (problem := self.provider.problem()) is not None:
            reasons.append(problem)
        return BackendError(
            f"provider {self.name} cannot be started: {'; '.join(reasons)}. {self.provider.advice}"
        )


def _open_sides(content: bytes) -> set[str]:
    """Names of sides that a graph's inputs leave open: that of the batch.

    What the CPU cannot open, since it was compiled for a provider, has none.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[CPU])
    except Exception:  # as above; if the content is at fault, the provider says so
        return set()
    return {side for end in session.get_inputs() for side in end.shape if isinstance(side, str)}


def _load_libraries(provider: Provider) -> None:
    """Load CUDA's and TensorRT's libraries from their wheels, where the system does not look."""
    if not provider.nvidia:
        return
    with suppress(Exception), redirect_stdout(io.StringIO()):  # `_missing_library` names them
        onnxruntime.preload_dlls()
    for module in provider.modules:
        with suppress(ImportError):
            importlib.import_module(module)


def _missing_library(provider: Provider) -> str:
    """Why a provider's library cannot be loaded; empty if it can, or if it has none of its own."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    short = provider.title.removesuffix("ExecutionProvider").lower()
    library = folder / f"libonnxruntime_providers_{short}.so"
    if not library.is_file():
        return ""
    try:
        # Has symbols that the other needs.
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return first_line(error)
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime from printing."""
    onnxruntime.set_default_logger_severity(4)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(2)  # its default: the present one cannot be asked
