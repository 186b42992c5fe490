"""Why a camera or stream cannot be read, and what to do."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from urllib.parse import urlsplit

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_PROBE = 2.0  # seconds

_ANSWERS = {
    "HTTPUnauthorizedError": (
        "user and password are missing or wrong (401). Write them before the host, as in "
        "rtsp://USER:PASSWORD@HOST/, with %40 for @, %3A for : and %2F for /."
    ),
    "HTTPForbiddenError": "this user has no access (403). Allow it in the camera's settings.",
    "HTTPNotFoundError": (
        "there is no such stream (404). The camera's manual gives the path behind the host."
    ),
}
_SOMETHING_ELSE = (
    "the answer is not a stream of this kind. Is this the address of the stream, or of a page, a "
    "single picture or another service?"
)
_UNESCAPED = (
    "this address cannot be parsed. In user and password, write %40 for @, %2F for / and %3F for ?."
)
_DEVICE = {
    errno.EACCES: "no permission. Add the user to the group video, and log in again.",
    errno.EBUSY: "another program is using it. Close that first.",
    errno.ENODEV: "this is not a camera, or it is gone. Is it plugged in?",
    errno.EINVAL: "it rejects these options. `v4l2-ctl --list-formats-ext` lists its own.",
    errno.ENOTTY: "this is not a camera.",
}


def network_fault(error: OSError, address: str, silence: float | None) -> str:
    """Explain PyAV's error on opening an address with a host, and say what to do.

    Args:
        silence: seconds without an answer, None if there was one.
    """
    answer = _ANSWERS.get(type(error).__name__) or _unreachable(address)
    if answer is not None:
        return answer
    if silence is not None:
        return f"silent for {silence:g} s. Is the camera on, and is this its address?"
    if type(error).__name__ in ("InvalidDataError", "EOFError") or error.errno == errno.EIO:
        return _SOMETHING_ELSE
    return f"{error.strerror}."


def device_fault(error: OSError) -> str:
    """Explain PyAV's error on opening a device, and say what to do."""
    if error.errno == errno.ENOENT:
        devices = sorted(str(device) for device in Path("/dev").glob("video*"))
        return f"no such device. There are: {', '.join(devices) or 'none'}."
    return _DEVICE.get(error.errno or 0, f"{error.strerror}.")


def _unreachable(address: str) -> str | None:
    """Why a host cannot be reached. FFmpeg does not say, so this connects to it."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    except ValueError:  # invalid brackets or port
        return _UNESCAPED
    if "@" in parts.path + parts.query + parts.fragment:  # host and port are part of the password
        return _UNESCAPED
    if host is None:
        return "it names no host."
    try:
        socket.create_connection((host, port), timeout=_PROBE).close()
    except (socket.gaierror, UnicodeError):
        return f"no host is called {host}. Is the name right, and is it known on this network?"
    except ConnectionRefusedError:
        return f"{host} refuses port {port}. Is the port right, and does the camera stream?"
    except OSError as error:
        return f"{host} cannot be reached at port {port} ({error}). Is it on, and on this network?"
    return None
