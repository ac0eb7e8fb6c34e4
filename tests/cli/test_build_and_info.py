"""The command line as a user meets it: build, info, help, and errors without a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aenet_ray import ReferenceEnergies, Structure
from aenet_ray.cli.main import COMMANDS, available, main
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store

TIO2 = Path(__file__).parents[1] / "data" / "tio2_ci100_xsf.tar.gz"


def test_build_and_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "data.h5")
    assert main(["build", str(TIO2), "-o", store, "--fidelity", "PBE"]) == 0
    assert "100 structures, 1,949 atoms (energy of 100, forces of 100)" in capsys.readouterr().out
    assert StructureStore(store).fidelities == ("PBE",)
    assert main(["info", store, "--verify"]) == 0
    text = capsys.readouterr().out
    for expected in ("(verified)", "Compositions", "O16Ti8", "closest atoms, Å", "fidelity PBE", "nothing suspicious"):
        assert expected in text
    assert main(["info", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["label_counts"]["forces"] == 100


def test_info_has_the_energies_of_atomic_energies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    structures = list(read_structures(TIO2))
    structures[5].energy += 300.0  # type: ignore[operator]  # an outlier, which a robust fit would leave out
    structures[5].name = "a-long-name/" * 20
    write_store(structures, tmp_path / "data.h5")
    found = ReferenceEnergies.from_regression(tmp_path / "data.h5").atomic_energies
    assert main(["info", str(tmp_path / "data.h5")]) == 0
    text = capsys.readouterr().out
    assert all(f"{energy:.6f}" in text for energy in found.values())
    assert "least squares on 100 structures" in text
    assert "a-long-name/" * 20 in text  # no line is cut or wrapped where there is no terminal
    assert main(["info", str(tmp_path / "data.h5"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["atomic_energies"] == found


def test_info_says_why_there_are_no_energies_by_species(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    water = [
        Structure([[0.0, 0, k], [0.97, 0, k], [-0.2, 0.95, k]], ["O", "H", "H"], -76.0 - 0.1 * k) for k in range(3)
    ]
    write_store(water, tmp_path / "water.h5", allow_duplicates=True)
    assert main(["info", str(tmp_path / "water.h5")]) == 0
    text = capsys.readouterr().out
    assert "No energies by species: the compositions of 3 structures have rank 1" in text
    assert "fitted energy" not in text


def test_skipping(tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bad.xsf").write_text("ATOMS\nH 0 0\n")
    arguments = ["build", str(TIO2), str(tmp_path / "bad.xsf"), "-o", str(tmp_path / "data.h5")]
    assert main(arguments) == 2
    assert not (tmp_path / "data.h5").exists()
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {tmp_path}/bad.xsf, frame 0")
    assert "Traceback" not in captured.err
    assert main([*arguments, "--on-error", "skip"]) == 0
    said = capsys.readouterr()
    assert (said.out + said.err + caplog.text).count("left out") == 1
    assert "bad.xsf" in (tmp_path / "data.h5.skipped.csv").read_text()


def test_a_replaced_store_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.xsf").write_text("ATOMS\nH 0 0 0\nH 0 0 1\n")
    store = str(tmp_path / "data.h5")
    for files, said in ((TIO2, False), (TIO2, False), (tmp_path / "one.xsf", True)):
        assert main(["build", str(files), "-o", store]) == 0
        assert ("; replaced 100 other structures, hash " in capsys.readouterr().out) == said
    Path(store).write_text("notes\n")
    assert main(["build", str(tmp_path / "one.xsf"), "-o", store]) == 0
    assert "; replaced a file that was no readable structure store" in capsys.readouterr().out


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path / "no.h5")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(RuntimeError, match="no such file"):
        main(["--traceback", "info", str(tmp_path / "no.h5")])


def test_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "build" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        main(["fly"])
    assert exit_.value.code == 2
    assert "invalid choice: 'fly'" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import atexit, sys; from aenet_ray.cli.main import main; "
        "atexit.register(lambda: print(*sys.modules)); main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("\n")[-2].split())
    assert not loaded & {"numpy", "torch", "ray", "h5py", "ase", "rich", "numba"}
    assert all(command in done.stdout for command in available())
    assert {"build", "info"} <= set(available()) <= set(COMMANDS)
