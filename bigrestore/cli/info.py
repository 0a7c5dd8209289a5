"""`bigrestore info FILE`: print how an input is understood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from bigrestore.cli.from_settings import arguments_command
from bigrestore.cli.table import print_rows, shorten

if TYPE_CHECKING:
    from bigrestore.io.section import Section
    from bigrestore.settings.looking import InfoArguments


MOST_FACTS = 20
"""Facts on one screen."""

LONGEST_FACT = 150
"""Characters of a fact."""

MOST_IMAGES = 6
"""Images of a file that are listed."""


@arguments_command("InfoArguments")
def info(asked: InfoArguments) -> None:
    """Print the shape, voxel size, levels and storage of a file, store or stack of sections."""
    import json

    from bigrestore.cli.log import configure_logging
    from bigrestore.core.urls import parse_options
    from bigrestore.io.open_section import open_section

    configure_logging(verbose=asked.verbose, quiet=False)
    options = None if asked.storage_options is None else parse_options(asked.storage_options)
    facts = _section_facts(
        open_section(
            asked.file,
            level=asked.level,
            series=asked.series,
            channel=asked.channel,
            storage_options=options,
        )
    )
    if asked.as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    print_rows(_shown_facts(facts))


def _shown_facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the known facts as names and values for people: one screen of them."""
    # --series takes its numbers from the list of images
    chosen_from = [name for name in facts if name.endswith(" images")]
    first = {name: facts[name] for name in ("source", "kind", *chosen_from) if name in facts}
    rows = [
        (name.replace("_", " "), shorten(_fact_text(name, value), LONGEST_FACT))
        for name, value in (first | facts).items()
        if value not in (None, [], {}, "") and not (name == "translation_um" and not any(value))
    ]
    hidden = len(rows) - MOST_FACTS
    return rows if hidden <= 1 else [*rows[:MOST_FACTS], ("more", f"{hidden} further facts by --json")]


def _section_facts(section: Section) -> dict[str, Any]:
    """Return all facts of a section, JSON-able."""
    details = dict(section.details)
    return {
        "source": section.source,
        "kind": section.kind,
        "format_version": section.format_version,
        "axes": section.axes,
        "shape_zyx": list(section.shape),
        "channels": section.channels,
        "dtype": section.dtype.name,
        "value_range": list(section.value_range),
        "voxel_size_um": list(section.voxel_size_um),
        "voxel_size_from": details.pop("voxel_size_from", None),
        "translation_um": list(section.translation_um),
        "level": section.level,
        "levels": [list(shape) for shape in section.levels],
        "resident_bytes": section.resident_bytes,
        "bytes": section.depth * section.height * section.width * section.channels * section.dtype.itemsize,
        "files": len(section.files),
        "maps": list((details.get("bigrestore") or {}).get("maps") or []),
        "bigrestore": details.pop("bigrestore", None),
        **{f"{section.kind} {name}": value for name, value in details.items()},
    }


def _fact_text(name: str, value: Any) -> str:
    """Return a fact for people: sizes in units, unknown spelled out."""
    if name in ("voxel_size_um", "translation_um"):
        text = ", ".join(
            f"{axis} {'unknown' if size is None else f'{size:g}'}"
            for axis, size in zip("zyx", value, strict=True)
        )
        return text + ("" if all(size is None for size in value) else " um")
    if name in ("bytes", "resident_bytes"):
        return f"{value / 2**20:.1f} MiB" if value < 2**30 else f"{value / 2**30:.1f} GiB"
    if name in ("shape_zyx", "value_range"):
        return (" x " if name == "shape_zyx" else " to ").join(f"{number:g}" for number in value)
    if name.endswith(" images"):
        more = [f"and {len(value) - MOST_IMAGES} more"] if len(value) > MOST_IMAGES else []
        return "; ".join([*map(_image_text, value[:MOST_IMAGES]), *more])
    if name == "bigrestore":
        return _maker_text(value)
    if name == "levels":
        return "; ".join(" x ".join(map(str, shape)) for shape in value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _maker_text(said: dict[str, Any]) -> str:
    """Return what made a store: version, method and scale; all else is in --json."""
    method, version = said.get("method") or {}, said.get("version")
    parts = [f"version {version}"] if version else []
    if isinstance(method, dict) and method.get("name"):
        parts.append(f"method {' '.join(str(method[key]) for key in ('name', 'model') if method.get(key))}")
        parts += [f"x{method['scale']}"] if method.get("scale") else []
        parts += [f"realness {method['realness']:g}"] if "realness" in method else []
        parts += [f"by the map of {method['objective']['model']}"] if "objective" in method else []
    return ", ".join(parts) or str(said)


def _image_text(facts: dict[str, Any]) -> str:
    """Return the number, the shape, the type and the role of one image of several."""
    shape = " x ".join(map(str, facts["shape"]))
    named = f" {facts['name']}" if facts["name"] else ""
    return f"{facts['series']}:{named} {shape} ({facts['axes']}) {facts['dtype']}, {facts['role']}"
