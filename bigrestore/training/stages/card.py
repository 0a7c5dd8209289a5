"""The model card: parts, length, data and figures of a training, in words.

It is written from the checkpoint's own metadata beside every trained model; only unmeasurable facts are typed by
hand: origin and licence of the images. They come from an optional file `SOURCES.md` in the data folder. A head in YAML,
as model hubs read it, stands above.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bigrestore.core.files import whole_file
from bigrestore.core.host.names import printable
from bigrestore.training.fitting.report import fit_lines
from bigrestore.training.stages.table import STAGES

SOURCES_NAME = "SOURCES.md"

TAGS = ("histology", "microscopy", "deconvolution", "denoising")
"""What every model is for; one that enlarges also has super-resolution."""


def sources_of(data: Path) -> str | None:
    """Return the text on the origin of a folder's images, or None."""
    sources = data / SOURCES_NAME
    return sources.read_text(encoding="utf-8", errors="backslashreplace") if sources.is_file() else None


def write_card(model: Path, info: dict[str, Any], sources: str | None) -> Path:
    """Write the card of a model beside it, `.md`, and return its path."""
    text = model_card(model.stem, info, sources)
    path = model.with_suffix(".md")
    with whole_file(path) as partial:
        partial.write_text(printable(text), encoding="utf-8")
    return path


def model_card(name: str, info: dict[str, Any], sources: str | None = None) -> str:
    """Return the card of a checkpoint as Markdown.

    Parameters
    ----------
    name : str
        Name of the model.
    info : dict
        Metadata of the checkpoint.
    sources : str, optional
        Markdown with the images and their licences.
    """
    with_prior = f" ({info['halo_prior_px']} px with the prior)" if "halo_prior_px" in info else ""
    realness = (
        f", used at realness {info['realness']:g} where no other is asked for" if "realness" in info else ""
    )
    joined = ", joined by features in the place of noise" if info.get("fusion") == "noise" else ""
    lines = card_head(info)
    lines += (
        [f"# {name}", "", *_part_lines(info)]
        if "kind" in info
        else [
            f"# {name}",
            "",
            f"A `{info['preset']}` restorer for scale x{info['scale']}: {info['parameters']:,} parameters, halo "
            f"{info['halo_px']} px{with_prior}, alignment {info['alignment_px']} px, "
            f"{'with' if info['prior'] else 'without'} a generative prior{joined}{realness}.",
            "",
            f"sha256 of the tensors: `{info['sha256']}`",
        ]
    )
    lines += _adaptation_lines(info["adapted"]) if "adapted" in info else []
    if "windows" in info:
        lines += fit_lines(info["windows"], shared=info["shared"], scale=info["scale"])
    training = info.get("training", {})
    for stage, record in sorted(training.items(), key=lambda item: list(STAGES).index(item[0])):
        lines += ["", f"## Training, stage {stage}", "", *_stage_lines(record)]
    lines += ["", "## Data", "", (sources or "The images of the training folder.").strip(), ""]
    return "\n".join(lines)


def card_head(info: dict[str, Any], licence: str | None = None) -> list[str]:
    """Return the head of a card in YAML, which programs read: what a model is for and what made it.

    Parameters
    ----------
    info : dict
        Metadata of the checkpoint.
    licence : str, optional
        Identifier of the weights' licence; None: its maker has yet to choose one.
    """
    tags = [*TAGS, *(["super-resolution"] if info["scale"] > 1 else [])]
    stated = {
        **({} if licence is None else {"license": licence}),
        "library_name": "bigrestore",
        "pipeline_tag": "image-to-image",
        "tags": tags,
        "bigrestore": {
            "kind": info.get("kind", "restorer"),
            "scale": info["scale"],
            "parameters": info["parameters"],
            "sha256": info["sha256"],
        },
    }
    # A value of JSON is one of YAML.
    return ["---", *(f"{name}: {json.dumps(value)}" for name, value in stated.items()), "---", ""]


def _part_lines(info: dict[str, Any]) -> list[str]:
    """Return the kind and the sizes of a part, and the network that it belongs to."""
    sizes = ", ".join(f"{name} {value}" for name, value in info["sizes"].items())
    owner = (
        [
            "",
            f"It belongs to the network `{info['model']}`, sha256 of the tensors `{info['network']}`, and was chosen by the "
            f"distance `{info['distance']}`.",
        ]
        if "network" in info
        else []
    )
    return [
        f"{'An' if info['kind'][0] in 'aeiou' else 'A'} {info['kind']} for scale x{info['scale']}: "
        f"{info['parameters']:,} parameters ({sizes}), halo {info['halo_px']} px, alignment {info['alignment_px']} px.",
        *owner,
        "",
        f"sha256 of the tensors: `{info['sha256']}`",
    ]


def _adaptation_lines(record: dict[str, Any]) -> list[str]:
    """Return the sections and the start of an adaptation."""
    lines = [
        "",
        "## Adaptation",
        "",
        f"Adapted from `{record['start']}`, sha256 `{record['start_sha256']}`, to the sections below.",
        *(["", record["realness"]] if "realness" in record else []),
        "",
        "| section | pixels | sharp windows by downscaling | what was read of it |",
        "|---|---|---|---|",
    ]
    for section in record["sections"]:
        factors = ", ".join(f"x {factor}: {count}" for factor, count in section["factors"].items())
        height, width = section["size"]
        lines.append(
            f"| {section['name']} | {width} x {height} | {factors or 'none, left out'} | {section['read']} |"
        )
    if record["gains"]:
        lines += ["", "| gain over interpolation on windows of them, dB | start | adapted |", "|---|---|---|"]
        lines += [f"| {name} | {before:g} | {after:g} |" for name, (before, after) in record["gains"].items()]
    return lines


def _stage_lines(record: dict[str, Any]) -> list[str]:
    """Return the facts of a stage: time, machine, settings, data shares, held-out figures."""
    shares = ", ".join(
        f"{group or 'no group'} {100 * share:.1f} %" for group, share in record["groups"].items()
    )
    lines = [f"- started from a model trained before: {_effort(old)}" for old in record.get("earlier", [])]
    lines += [
        f"- {_effort(record)}",
        f"- recipe `{record['recipe']}`, seed {record['seed']}, highest rate {record['rate']:g}; "
        f"{record['steps_skipped']} steps left out and {record['steps_restored']} restorations by the guard",
        f"- {record['files']} files, drawn by group: {shares}",
        *([f"- {record['note']}"] if "note" in record else []),
        "",
        "| held-out figure | value |",
        "|---|---|",
    ]
    return lines + [f"| {name} | {value:g} |" for name, value in record["figures"].items()]


def _effort(record: dict[str, Any]) -> str:
    """Return length, settings and machine of a training."""
    return (
        f"{record['seconds'] / 60:.0f} minutes, {record['steps']:,} steps of {record['batch']} windows, "
        f"{record['precision']}, {record['threads']} thread(s) of a {record['machine']}"
    )
