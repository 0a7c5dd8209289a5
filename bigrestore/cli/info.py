"""`bigrestore info FILE`: print what was understood of an input, before anything is done with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bigrestore.io.section import Section


def info(
    file: Annotated[
        str, typer.Argument(help="A file, store, directory or quoted pattern.", show_default=False)
    ],
    level: Annotated[int, typer.Option(help="Level of the pyramid to describe.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print the shape, voxel size, levels and storage of a file, store or stack of sections."""
    import json

    from rich.console import Console
    from rich.table import Table

    from bigrestore.io.section import open_section

    facts = _facts(open_section(file, level=level))
    console = Console()
    if as_json:
        console.print_json(json.dumps(facts))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), _text(name, value))
    console.print(table)


def _facts(section: Section) -> dict[str, Any]:
    """Return everything that is known of a section, JSON-able."""
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
        "translation_um": list(section.translation_um),
        "level": section.level,
        "levels": [list(shape) for shape in section.levels],
        "resident_bytes": section.resident_bytes,
        "bytes": section.depth * section.height * section.width * section.channels * section.dtype.itemsize,
        "files": len(section.files),
        "bigrestore": _provenance(section),
        **{f"{section.kind} {name}": value for name, value in section.details.items()},
    }


def _provenance(section: Section) -> Any:
    """Return what bigrestore wrote about itself into a store of its own, or None."""
    if section.kind != "ome-zarr":
        return None
    import zarr

    return zarr.open_group(store=Path(section.source), mode="r").attrs.get("bigrestore")


def _text(name: str, value: Any) -> str:
    """Return a fact for people: sizes in units, unknown spelled out."""
    if name in ("voxel_size_um", "translation_um"):
        text = ", ".join(
            f"{axis} {'unknown' if size is None else f'{size:g}'}"
            for axis, size in zip("zyx", value, strict=True)
        )
        return text + ("" if all(size is None for size in value) else " um")
    if name in ("bytes", "resident_bytes"):
        return f"{value / 2**20:.1f} MiB"
    if name in ("shape_zyx", "value_range"):
        return (" x " if name == "shape_zyx" else " to ").join(f"{number:g}" for number in value)
    if name == "levels":
        return "; ".join(" x ".join(map(str, shape)) for shape in value)
    return "-" if value is None else str(value)
