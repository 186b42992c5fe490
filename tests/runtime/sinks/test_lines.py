"""Files that grow by whole lines, also when the disk is full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeunet.errors import OutputError, OutputExistsError, UsageError
from edgeunet.runtime.sinks.lines import LineFile


def test_line_is_there_as_soon_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.csv"
    with LineFile(path) as lines:
        for count in range(1, 4):
            lines.write("ä\n")
            assert path.read_text() == "ä\n" * count


def test_what_stands_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(OutputExistsError, match="--force"):
        LineFile(tmp_path / "out.csv")
    with pytest.raises(UsageError, match="is a directory; expected a file"):
        LineFile(tmp_path, force=True)
    assert (tmp_path / "out.csv").read_text() == "old"


def test_second_writer_is_refused_before_it_empties_the_file(tmp_path: Path) -> None:
    with LineFile(tmp_path / "out.csv") as lines:
        lines.write("1\n")
        with pytest.raises(OutputError, match="written by another run"):
            LineFile(tmp_path / "out.csv", force=True)
        lines.write("2\n")
    assert (tmp_path / "out.csv").read_text() == "1\n2\n"


FILL = """
import resource, signal, sys
from pathlib import Path
from edgeunet.runtime.sinks.lines import LineFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
with LineFile(Path(sys.argv[1])) as lines:
    for index in range(100):
        try:
            lines.write(f"frame {index:5}" + 2 * (9 * "." + chr(10)))
        except OSError as error:
            print(index, error.strerror)
            break
"""


@pytest.mark.parametrize("size", [10, 311])
def test_full_disk_leaves_whole_texts_and_is_told_of(tmp_path: Path, size: int) -> None:
    command = [sys.executable, "-c", FILL, str(tmp_path / "out.txt"), str(size)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    content = (tmp_path / "out.txt").read_text()
    assert len(content) == 31 * (size // 31)
    assert said == f"{size // 31} File too large\n"
