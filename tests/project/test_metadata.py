"""What others read of the project before they run it: version, licence, citation, public names, wheel."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

import bigrestore
from bigrestore.model.nets.checkpoint import read_weights, write_weights
from bigrestore.training.stages.card import card_head

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".cff", ".yml", ".yaml", ".cfg", ".sh", ".json", ""}


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d+\.\d+\.\d+)", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert {bigrestore.__version__, str(citation["version"]), newest[1]} == {"0.1.0"}


def test_citation_has_what_the_format_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation.keys() >= {"cff-version", "message", "title", "authors", "license", "version"}
    assert citation["license"] == PROJECT["license"] == "BSD-3-Clause"


def test_public_names_are_pinned() -> None:
    functions = ["degrade", "load_model", "open_section", "restore", "score", "try_variants"]
    assert bigrestore.__all__ == ["__version__", *functions]
    for name in bigrestore.__all__:
        assert getattr(bigrestore, name) is not None


def test_licence_files_are_shipped() -> None:
    for name in PROJECT["license-files"]:
        assert (ROOT / name).is_file()
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")


def test_every_shipped_model_has_a_card() -> None:
    weights = ROOT / "bigrestore" / "weights"
    for model in weights.glob("*.safetensors"):
        assert model.with_suffix(".md").is_file(), f"{model.name} has no model card"
        assert model.stat().st_size < 8_000_000


def test_every_card_has_a_head_in_yaml_that_is_true() -> None:
    weights = ROOT / "bigrestore" / "weights"
    models = sorted(weights.rglob("*.safetensors"))
    assert len(models) >= 6
    for model in models:
        _, head, body = model.with_suffix(".md").read_text(encoding="utf-8").split("---\n", 2)
        stated = yaml.safe_load(head)
        info, _ = read_weights(model)
        assert stated == yaml.safe_load("\n".join(card_head(info, "bsd-3-clause")[1:-2]))
        assert stated["bigrestore"]["sha256"] == info["sha256"]
        assert f"sha256 of the tensors: `{info['sha256']}`" in body
        assert body.startswith(f"\n# {model.stem}\n")


def test_a_model_is_read_by_others_than_its_owner(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        for _ in range(2):  # made, then replaced
            write_weights(tmp_path / "m.safetensors", {"a": torch.zeros(3)}, {})
            assert stat.S_IMODE((tmp_path / "m.safetensors").stat().st_mode) == 0o644
        os.umask(0o077)
        write_weights(tmp_path / "mine.safetensors", {"a": torch.zeros(3)}, {})
        assert stat.S_IMODE((tmp_path / "mine.safetensors").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_the_source_distribution_holds_the_tests() -> None:
    lines = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    assert {"graft tests", "graft docs", "graft examples"} <= set(lines)


def test_constraints_name_everything_that_is_installed() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {m[1] for m in re.finditer(r"^([\w.-]+)==\S+$", constraints, flags=re.MULTILINE)}
    wanted = [
        *PROJECT["dependencies"],
        *(w for extra in PROJECT["optional-dependencies"].values() for w in extra),
    ]
    names = {re.split(r"[\[<>=!~ ;]", text)[0] for text in wanted}
    assert _plain(names) <= _plain(pinned)
    assert "+" not in constraints, "a local version cannot be installed elsewhere"


def test_the_readme_names_every_extra() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", readme.split("| extra | for |")[1].split("\n\n")[0], re.MULTILINE)
    assert set(listed) == set(PROJECT["optional-dependencies"])


def test_no_path_of_one_machine_is_in_the_repository() -> None:
    forbidden = re.compile(r"(?<![\w.$}~/-])/(?:home|root|Users|work|mnt|tmp|scratch)/[\w.]")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in tracked()
        if path.suffix in TEXT_SUFFIXES and path.is_file() and path != Path(__file__).resolve()
        for line in path.read_text(encoding="utf-8").splitlines()
        if forbidden.search(line)
    ]
    assert found == []


def test_installed_package_offers_the_command() -> None:
    from importlib.metadata import distribution

    found = distribution("bigrestore")
    scripts = {point.name: point.value for point in found.entry_points if point.group == "console_scripts"}
    assert scripts == {"bigrestore": "bigrestore.__main__:main"}
    assert found.version == bigrestore.__version__


def _plain(names: set[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}
