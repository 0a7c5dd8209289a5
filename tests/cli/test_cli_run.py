"""The command line as a user meets it: exit codes, sentences, speed of --help."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from skimage import data

from bigrestore.cli import app as app_module
from tests.warm_python import WarmPython

HEAVY = ("torch", "zarr", "dask", "numpy", "jinja2", "matplotlib")


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "tissue.png"
    Image.fromarray(data.immunohistochemistry()).convert("L").crop((0, 0, 300, 200)).save(path)
    return path


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nsys.argv = ['bigrestore', '--help']\nfrom bigrestore.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        f"print('LOADED', [name for name in {HEAVY} if name in sys.modules], code)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "LOADED [] 0" in found.stdout, found.stdout + found.stderr
    for command in ("run", "score", "info", "verify", "profile", "degrade", "train", "models"):
        assert command in found.stdout


def test_help_of_every_command_answers(call: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "score", "info", "verify", "profile", "degrade", "train", "models"):
        assert call(command, "--help") == 0
        assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "-dash.tif", "out.ome.zarr"), "-d; see --help, or give the file -dash.tif as ./-dash.tif"),
        (("info", "--two.tif"), "--two.tif; see --help, or give the file --two.tif as ./--two.tif"),
        (("run", "in.tif", "-x.ome.zarr"), "-x; see --help, or give the file -x.ome.zarr as ./-x.ome.zarr"),
        (("info", "-folder"), "-f; see --help, or give the file -folder as ./-folder"),
        (("info", "-none"), "-n; see --help"),
        (("info", "in.tif", "-3.5"), "-3; see --help"),
        (
            ("run", "a", "b", "--zzz=2.tif"),
            "--zzz; see --help",
        ),
    ],
)
def test_a_file_that_begins_with_a_dash_is_told_from_an_option(
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-folder").mkdir()
    assert call(*words) == 2
    assert capsys.readouterr().err == f"bigrestore: No such option: {said}.\n"


def test_run_then_resume_then_refuse(
    picture: Path,
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    warm_python: WarmPython,
) -> None:
    out = tmp_path / "out.ome.zarr"
    common = ("run", picture, out, "--method", "rational", "--scale", 2)
    done = warm_python.bigrestore(*common, cwd=tmp_path)
    said = "".join(done.communicate())
    assert done.returncode == 0, said
    assert "\x1b" not in said
    assert zarr.open_array(out / "0").shape == (400, 600)
    assert call("verify", out) == 0
    for extra, code, word in (
        ((), 4, "--resume"),
        (("--resume",), 0, "finished already"),
        (("--resume", "--seed", 3), 4, "--seed"),
        (("--overwrite",), 0, "tiles"),
    ):
        capsys.readouterr()
        assert call(*common, *extra) == code
        said = capsys.readouterr().err
        assert word in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("run", "missing.png", "o.zarr"), 3, "does not exist"),
        (("run", "PICTURE", "o.zarr", "--tile-size", "0"), 2, "--tile-size"),
        (("run", "PICTURE", "o.zarr", "--realness", "nan"), 2, "--realness"),
        (("run", "PICTURE", "o.zarr", "--block-size", "1000"), 2, "--block-size"),
        (("run", "PICTURE", "o.zarr", "--scale", "5"), 2, "--scale"),
        (("run", "PICTURE", "o.zarr", "--scale", "two"), 2, "--scale"),
        (("run", "PICTURE", "o.zarr", "--method", "magic"), 2, "--method"),
        (("run", "PICTURE", "o.zarr", "--method", "rational", "--level", "3"), 2, "level"),
        (("run", "PICTURE", "o.zarr", "--model", "no/such.safetensors"), 3, "no/such.safetensors"),
        (("run", "PICTURE", "o.zarr", "--config", "none.toml"), 3, "none.toml"),
        (("run", "PICTURE"), 2, "OUTPUT"),
        (("run", "PICTURE", "o.zarr", "--bogus"), 2, "--bogus"),
        (("bogus",), 2, "bogus"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_a_code(
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    word: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(picture) if argument == "PICTURE" else argument for argument in arguments]
    assert call(*given) == code
    said = capsys.readouterr().err
    assert word.lower() in said.lower()
    assert "Traceback" not in said
    assert not (tmp_path / "o.zarr").exists()


def test_dry_run_writes_nothing_and_speaks_json(
    picture: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.zarr"
    assert call("run", picture, out, "--method", "rational", "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["shape_out"] == [1, 200, 300]
    assert found["memory_bytes"] > 0
    assert call("run", picture, out, "--method", "rational", "--dry-run") == 0
    table = capsys.readouterr().out
    for word in ("blocks", "redundancy", "peak memory", "wall time"):
        assert word in table
    assert list(tmp_path.iterdir()) == []


def test_config_file_is_obeyed(picture: Path, tmp_path: Path, call: Callable[..., int]) -> None:
    config = tmp_path / "run.toml"
    config.write_text('method = "catmull-rom"\nscale = 4\nprogress = "none"\nreport = false\n')
    assert call("run", picture, tmp_path / "o.zarr", "--config", config, "-q") == 0
    assert zarr.open_array(tmp_path / "o.zarr/0").shape == (800, 1200)


def test_profile_prints_and_writes(
    picture: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "profile.json"
    assert call("profile", picture, "--method", "rational", "-o", target) == 0
    assert "noise sigma" in capsys.readouterr().out
    assert json.loads(target.read_text())["read_noise"] > 0
    assert call("profile", picture, "--method", "rational", "--z", 1) == 2


def test_failed_blocks_end_with_five_and_a_bug_with_one(
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bigrestore.model.methods.interpolate import InterpolateMethod
    from bigrestore.run import pipeline

    source = tmp_path / "in.zarr"
    zarr.save_array(source, np.tile(np.asarray(Image.open(picture)), (3, 4)))
    kept = InterpolateMethod.restore

    def broken(self: InterpolateMethod, batch: object, statistics: object) -> object:
        if batch.origins[0, 0] >= 400:  # type: ignore[attr-defined]
            raise ValueError("no luck")
        return kept(self, batch, statistics)  # type: ignore[arg-type]

    monkeypatch.setattr(InterpolateMethod, "restore", broken)
    common = ("--method", "rational", "--block-size", 480, "--mask", "none", "--progress", "none")
    assert call("run", source, tmp_path / "o.zarr", *common) == 5
    said = capsys.readouterr().err
    assert "z00000-y0001-x0000" in said
    assert "no luck" in said

    def bug(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(pipeline.Pipeline, "run", bug)
    assert call("run", source, tmp_path / "p.zarr", *common) == 1
    said = capsys.readouterr().err
    assert "bug" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_ends_with_its_code_and_a_way_out(
    tmp_path: Path, warm_python: WarmPython, number: int, code: int
) -> None:
    source, out = tmp_path / "in.zarr", tmp_path / "out.zarr"
    zarr.save_array(source, np.random.default_rng(0).integers(0, 255, (3000, 3000), np.uint8))
    options = "--method rational --scale 4 --block-size 480 --threads 1"
    process = warm_python.bigrestore("run", source, out, *options.split(), cwd=tmp_path)
    records = Path(f"{out}.bigrestore/journal")
    for _ in range(600):
        if records.exists() and any(records.glob("*.json")):
            break
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code, said
    assert "--resume" in said
    assert not list(records.glob("*.inflight"))


def test_no_arguments_show_the_help_and_nothing_else(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ((), ("train",), ("models",)):
        assert call(*words) == 2
        said = capsys.readouterr()
        assert "Usage" in said.out + said.err
        assert "see --help" not in said.out + said.err


def test_the_module_runs_as_a_program() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "bigrestore", "--version"], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0
    assert found.stdout.startswith("bigrestore ")


@pytest.mark.parametrize("progress", [(), ("--progress", "lines")])
def test_quiet_is_quiet_unless_progress_is_asked_for(
    picture: Path,
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    progress: tuple[str, ...],
) -> None:
    assert call("run", picture, tmp_path / "o.zarr", "--method", "rational", "-q", *progress) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert (said.err == "") == (not progress)


def test_verbose_before_the_command_shows_the_traceback_of_any(
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bigrestore.io import open_section as section

    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(section, "open_section", bug)
    assert call("info", picture) == 1
    said = capsys.readouterr().err
    assert "bigrestore -v" in said
    assert "Traceback" not in said
    assert call("-v", "info", picture) == 1
    assert "Traceback" in capsys.readouterr().err


def test_every_error_ends_with_a_full_stop(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], picture: Path
) -> None:
    assert call("run", picture, "o.zarr", "--kernel", "none.npy") == 3
    assert capsys.readouterr().err.endswith(".\n")


def test_a_kernel_file_without_numbers_is_a_sentence(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    assert call("run", picture, tmp_path / "o.zarr", "--kernel", tmp_path / "empty.txt") == 3
    assert "empty.txt" in capsys.readouterr().err


def test_the_configuration_is_not_overwritten(
    picture: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.tif"
    config.write_text('method = "rational"\noverwrite = true\n')
    assert call("run", picture, config, "--config", config) == 4
    assert "configuration" in capsys.readouterr().err
    assert "rational" in config.read_text()


@pytest.mark.parametrize("line", ['overwrite = "false"', 'lock = "no"', "mask = 5", 'voxel_size = ["a", 1]'])
def test_a_value_of_another_type_in_the_configuration_is_refused(
    picture: Path,
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    line: str,
) -> None:
    config = tmp_path / "run.toml"
    config.write_text(line)
    assert call("run", picture, tmp_path / "o.zarr", "--config", config) == 2
    assert "--" + line.split()[0].replace("_", "-") in capsys.readouterr().err
    assert not (tmp_path / "o.zarr").exists()


def test_everything_but_what_the_readme_excepts_may_stand_in_the_configuration() -> None:
    import attrs
    import typer

    from bigrestore.settings import RunSettings

    run = typer.main.get_command(app_module.app).commands["run"]  # type: ignore[attr-defined]
    names = {param.name for param in run.params} - {"input", "output"}
    excepted = {"config", "paths", "output_folder", "dry_run", "sbatch", "as_json", "verbose", "quiet"}
    assert names - excepted == {field.name for field in attrs.fields(RunSettings)}


def test_what_a_library_warns_of_is_no_line_of_ours_unless_asked_for(
    tmp_path: Path, warm_python: WarmPython
) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(64, 64), chunks=(32, 32), dtype="u1", zarr_format=2)
    array[:] = 7
    facts = tmp_path / "a.zarr/.zarray"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"filters": []}))  # zarr 3 warns of it
    cold = (sys.executable, "-m", "bigrestore", "info", tmp_path / "a.zarr")  # its imports may warn, too
    assert subprocess.run(cold, capture_output=True, text=True, timeout=120).stderr == ""
    words = ("-v", "--log-format", "json", "info", "a.zarr")
    asked = warm_python.bigrestore(*words, cwd=tmp_path).communicate()[1].splitlines()
    assert any("empty list of filters" in json.loads(line)["message"] for line in asked)
