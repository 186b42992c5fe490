"""Sensors of the board, read from files."""

from __future__ import annotations

from pathlib import Path

from edgeunet.runtime.serve.telemetry import Board


def write_all(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def test_jetson_reports_temperatures_and_power_rails(tmp_path: Path) -> None:
    write_all(
        tmp_path,
        {
            "thermal/thermal_zone0/type": "cpu-thermal",
            "thermal/thermal_zone0/temp": "48250",
            "thermal/thermal_zone2/type": "gpu-thermal",
            "thermal/thermal_zone2/temp": "46000",
            "thermal/thermal_zone10/type": "cv0-thermal",
            "thermal/thermal_zone10/temp": "-256000",  # switched off
            "hwmon/hwmon0/name": "cpu-thermal",
            "hwmon/hwmon3/name": "ina3221",
            "hwmon/hwmon3/in1_label": "VDD_IN",
            "hwmon/hwmon3/in1_input": "5000",
            "hwmon/hwmon3/curr1_input": "1500",
            "hwmon/hwmon3/in2_label": "VDD_CPU_GPU_CV",
            "hwmon/hwmon3/in2_input": "5000",
            "hwmon/hwmon3/curr2_input": "400",
            "hwmon/hwmon3/in7_label": "sum of shunt voltages",
            "hwmon/hwmon3/in7_input": "19",
        },
    )
    report = Board(tmp_path).report()
    assert report.temperatures == {"cpu": 48.25, "gpu": 46.0}
    assert report.power == {"VDD_IN": 7.5, "VDD_CPU_GPU_CV": 2.0}


def test_desktop_reports_its_chips(tmp_path: Path) -> None:
    write_all(
        tmp_path,
        {
            "thermal/thermal_zone0/type": "acpitz",
            "thermal/thermal_zone0/temp": "27800",
            "thermal/thermal_zone1/type": "acpitz",
            "thermal/thermal_zone1/temp": "29800",
            "hwmon/hwmon0/name": "acpitz",
            "hwmon/hwmon0/temp1_input": "27800",
            "hwmon/hwmon1/name": "coretemp",
            "hwmon/hwmon1/temp1_label": "Package id 0",
            "hwmon/hwmon1/temp1_input": "61000",
            "hwmon/hwmon2/name": "amdgpu",
            "hwmon/hwmon2/power1_label": "PPT",
            "hwmon/hwmon2/power1_average": "35000000",
            "hwmon/hwmon4/name": "broken",
            "hwmon/hwmon4/temp1_input": "many",
        },
    )
    report = Board(tmp_path).report()
    assert report.temperatures == {
        "acpitz": 27.8,
        "acpitz 2": 29.8,
        "coretemp Package id 0": 61.0,
    }
    assert report.power == {"PPT": 35.0}


def test_board_without_sensors_reports_nothing(tmp_path: Path) -> None:
    report = Board(tmp_path / "absent").report()
    assert (report.temperatures, report.power) == ({}, {})
