"""README.md and docs/ are read by people in a hurry: commands, options, code and links exist and work."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import typer
from PIL import Image

from bigrestore.cli.app import app
from tests.bench import __main__ as bench
from tests.bench.metrics import Figure
from tests.methods.onnx_networks import FREE, pooled

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (README, *sorted((ROOT / "docs").glob("*.md")))}
BLOCK = re.compile(r"(<!-- tested -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
OTHER_PROGRAMS = {"--readme", "--index-url", "--page"}
MOST_CHARACTERS = 9_000
MOST_PICTURE_BYTES = 300_000


def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(page: str, language: str, *, tested: bool = False) -> list[str]:
    parts = BLOCK.findall(text_of(page))
    return [text for mark, name, text in parts if name == language and (mark or not tested)]


def prose(page: str) -> str:
    return BLOCK.sub("", text_of(page))


def commands(page: str, *, tested: bool = False) -> list[list[str]]:
    texts = blocks(page, "bash", tested=tested)
    lines = [line for text in texts for line in text.splitlines() if line.startswith("bigrestore ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        words_of_name = 2 if " ".join(rest[:2]) in command.commands else 1
        name = " ".join(rest[:words_of_name])
        assert name in command.commands, f"there is no command {name!r}"
        command, rest = command.commands[name], rest[words_of_name:]
    return command, rest


def every_option() -> set[str]:
    def walk(command: click.Command) -> Iterator[str]:
        for param in command.params:
            yield from (*param.opts, *param.secondary_opts)
        for child in getattr(command, "commands", {}).values():
            yield from walk(child)

    return set(walk(typer.main.get_command(app))) | {"--help"}


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_two_commands_come_first() -> None:
    first = blocks("README.md", "bash")[0].splitlines()
    assert [line.split("#")[0].strip() for line in first] == ["make demo", "make test"]


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md")) <= MOST_CHARACTERS


def test_every_command_is_shown_somewhere() -> None:
    shown = {" ".join(words[:count]) for page in PAGES for words in commands(page) for count in (1, 2)}
    assert set(typer.main.get_command(app).commands) <= shown  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", [words for page in PAGES for words in commands(page)], ids=" ".join)
def test_command_is_understood(words: list[str]) -> None:
    command, rest = resolve(words)
    command.make_context("bigrestore", rest, resilient_parsing=False)


@pytest.mark.parametrize("page", PAGES)
def test_options_in_the_text_exist(page: str) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose(page)))
    assert named - OTHER_PROGRAMS <= every_option()


def test_make_targets_in_the_text_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?:`|^)make ([a-z-]+)", text_of(page), flags=re.MULTILINE)
    }
    assert {"demo", "test", "check", "bench", "wheel"} <= named <= targets


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "bigrestore/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for link in LINK.findall(BLOCK.sub("", path.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link} names a heading that is not there"


def test_the_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(text_of("README.md"))}
    assert set(PAGES) - {"README.md"} <= linked


def test_pictures_are_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text_of("README.md"))
    assert len(pictures) == 2
    for name in [*pictures, "examples/section.png"]:
        assert (ROOT / name).stat().st_size < MOST_PICTURE_BYTES, name


def test_nothing_is_said_twice() -> None:
    sentences = Counter(
        " ".join(sentence.split())
        for page in PAGES
        for paragraph in prose(page).split("\n\n")
        for sentence in re.split(r"(?<=[.:;])\s", paragraph)
        if len(sentence.split()) >= 9
    )
    assert not [sentence for sentence, count in sentences.items() if count > 1]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the current folder, with the sample where the README has it, and a small grey part of it as `section.png`."""
    (tmp_path / "examples").mkdir()
    sample = Path(shutil.copy(ROOT / "examples" / "section.png", tmp_path / "examples"))
    Image.open(sample).convert("L").crop((120, 150, 336, 366)).save(tmp_path / "section.png")
    pooled(tmp_path / "network.onnx", FREE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_shell_block_of_the_readme_restores_the_sample(workplace: Path, call: Callable[..., int]) -> None:
    for words in commands("README.md", tested=True):
        assert call(*words) == 0, words
    report = workplace / "restored.ome.zarr.bigrestore" / "report"
    assert (report / "report.html").is_file()
    metrics = json.loads((report / "summary.json").read_text())["metrics"]
    for name in ("niqe", "brisque", "piqe"):
        assert metrics[name]["change"]["verdict"] == "better", name


def test_the_shell_blocks_of_the_pages_run(workplace: Path, call: Callable[..., int]) -> None:
    lines = [words for page in PAGES if page != "README.md" for words in commands(page, tested=True)]
    assert lines
    for words in lines:
        assert call(*words) == 0, words
    assert (workplace / "enlarged.ome.zarr" / "zarr.json").is_file()
    assert (workplace / "region.ome.tif").is_file()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_blocks_run(page: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scripts = blocks(page, "python", tested=True)
    assert scripts == blocks(page, "python")
    exec("\n".join(scripts), {"__name__": page})
    assert "nan" not in capsys.readouterr().out


def test_exit_codes_are_those_of_the_errors() -> None:
    from bigrestore import errors

    table = text_of("docs/run.md").split("## Exit codes")[1].split("##")[0]
    stated = {int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert stated == {kind.exit_code for kind in kinds if issubclass(kind, errors.BigrestoreError)} | {0, 130}


def test_the_bench_writes_its_table_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "benchmarks.md"
    shutil.copy(bench.PAGE, page)
    before, mark, rest = page.read_text(encoding="utf-8").partition(bench.BEGIN)
    assert mark
    assert rest.count(bench.END) == 1
    monkeypatch.setattr(bench, "PAGE", page)
    tables = rest.partition(bench.END)[0].split(bench.HEADING)
    bench.write_page({"speed": [Figure("how fast", "< 1", "0.5", True)]}, "a machine")
    written = page.read_text(encoding="utf-8")
    assert written.startswith(before)
    assert written.endswith(rest.partition(bench.END)[2])
    renewed = written.partition(bench.BEGIN)[2].partition(bench.END)[0].split(bench.HEADING)
    assert [table for table in renewed if table not in tables] == [
        "speed\n\n| figure | target | on a machine | met? |\n|---|---|---|---|\n| how fast | < 1 | 0.5 | yes |\n\n"
    ]
    assert len(renewed) == len(tables), "the tables of the other modules stay"
