"""The verdict in plain words: the changes, the number of tiles, the certainty, and the objections.

A change is called better or worse only if its interval lies wholly on one side of zero. What the scores cannot
see is said in the same breath, because a smoothed, drifted or invented image can have the best scores of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bigrestore.report.metrics.columns import COLUMNS, Column
from bigrestore.report.page.data import ReportData
from bigrestore.report.page.markup import count, escape, listed, number, percent, plural, short_name, signed
from bigrestore.run.profile.words import of_sections

LIMITS = (
    "NIQE, BRISQUE and PIQE are statistics of natural images: lower is better, trained on photographs, use for the same "
    "field before and after. They are no measure of whether a structure is real, they cannot compare one stain, "
    "magnification or brain with another, and they do not see stripes, shading, contrast or grey levels that moved; "
    "a median filter can improve PIQE. So read them with the pictures and with the figures under "
    "“What the scores cannot see”."
)
REFERENCE_LIMITS = (
    "PSNR, SSIM and MS-SSIM compare with the reference, pixel by pixel: where there is one they say more than any score "
    "without a reference, and they punish a shift of half a pixel as much as a blur."
)

MATTERS = {"noise": 0.1, "stripes_rows": 0.1, "stripes_columns": 0.1, "shading": 1.0, "clipped": 0.1}
"""Changes of the plain columns that are worth a sentence, in percent of the range: a quarter of a grey level of 256, that of
a slow shade, one pixel in a thousand. With many tiles a far smaller one is certain, and does not matter."""

MATTERS_SHARE = 0.1
MOVED_GREY = 1.0
RESIDUAL_OVER_NOISE = 1.5
LEAST_INVENTED = 0.05


def verdict_of(change: Mapping[str, Any], column: Column) -> str:
    """Return `better`, `worse`, `unclear`, `few` (no interval) or `none` (no direction) for a change."""
    if column.direction == "none":
        return "none"
    low, high = change["low"], change["high"]
    if low is None or high is None:
        return "few"
    if low <= 0 <= high:
        return "unclear"
    rose = low > 0
    return "better" if rose == (column.direction == "higher") else "worse"


def verdict(data: ReportData) -> str:
    """Return the first block of the page."""
    if not data.summary["tiles"]["valid"]:
        return _nothing(data)
    judged = data.group("reference") + data.group("score")
    if data.pair:
        headline, sentences = _headline(data, judged), [_pair_sentence(data, each) for each in judged]
    else:
        headline, sentences = "One image, scored", [_single_sentence(data, each) for each in judged]
    beside = []
    if failed := data.summary["tiles"]["invalid"].get("failed", 0):
        mark = '<span class="mark worse">failed</span>'
        beside.append(f"{mark} {plural(failed, 'tile')} could not be scored; see the end.")
    readings = data.facts.get("read", ())
    if said := of_sections(readings):
        where = "; each is in the table of the sections" if len(readings) > 1 else ""
        beside.append(f"What was read of the input: {escape(said)}{where}.")
    beside += _smoothing(data) if data.pair else []
    beside += [*_restored(data), *_grey_jump_sentence(data)]
    parts = [f'<p class="headline">{escape(headline)}</p>', f"<p>{_on_tiles(data)}</p>"]
    parts.append("<ul>" + "".join(f"<li>{sentence}</li>" for sentence in sentences) + "</ul>")
    if beside:
        parts.append(
            "<h3>Beside the scores</h3><ul>" + "".join(f"<li>{line}</li>" for line in beside) + "</ul>"
        )
    limits = [LIMITS] + ([REFERENCE_LIMITS] if data.group("reference") else [])
    parts.append('<p class="limits">' + escape(" ".join(limits)) + "</p>")
    return "\n".join(parts)


def _nothing(data: ReportData) -> str:
    """Write the verdict without any scored tile."""
    reasons = listed([f"{count(n)} {name}" for name, n in data.summary["tiles"]["invalid"].items()])
    return (
        '<p class="headline">No tile could be scored</p>'
        f"<p>All {count(data.summary['tiles']['total'])} tiles were left out ({escape(reasons)}), so there is no score "
        "of this image; blank, flat and background tiles are never given a number.</p>"
    )


def _headline(data: ReportData, judged: list[Column]) -> str:
    """Return the shortest true sentence on a pair."""
    labels: dict[str, list[str]] = {"better": [], "worse": [], "unclear": [], "few": []}
    for column in judged:
        if data.twin(column):
            kind = verdict_of(data.entry(column)["change"], column)
            labels.setdefault(kind, []).append(column.label)
    if not any(labels.values()):
        return "No tile is valid in both images"
    if labels["few"]:
        return "Too few tiles for a verdict"
    parts = [f"{name} by {listed(labels[name])}" for name in ("better", "worse") if labels[name]]
    if labels["unclear"]:
        parts.append(f"{'no clear change' if not parts else 'unclear'} by {listed(labels['unclear'])}")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]


def _on_tiles(data: ReportData) -> str:
    """Name the images and count the tiles of the verdict."""
    tiles = data.summary["tiles"]
    names = f"<strong>{escape(short_name(data.facts.get('image', 'the image')))}</strong>"
    if data.pair:
        names += f" against <strong>{escape(short_name(data.facts.get('before', 'before')))}</strong>"
    if data.facts.get("reference"):
        names += f", with the reference <strong>{escape(short_name(data.facts['reference']))}</strong>"
    sections = data.sections.size
    where = f" in {plural(sections, 'section')}" if sections > 1 else ""
    if data.pair:
        return (
            f"{names}: {plural(tiles['valid_in_both'], 'tile')} valid in both, of {count(tiles['total'])}{where}. "
            "A change is the median of the changes tile by tile; in brackets its 95 % interval."
        )
    return f"{names}: {plural(tiles['valid'], 'valid tile')} of {count(tiles['total'])}{where}."


def _pair_sentence(data: ReportData, column: Column) -> str:
    """Say how one score changed."""
    label = f"<strong>{escape(column.label)}</strong>"
    if not data.twin(column):
        return _single_sentence(data, column)
    change, digits = data.entry(column)["change"], data.decimals[column.name]
    if not change["count"]:
        return f"{label}: no tile has it in both images."
    kind = verdict_of(change, column)
    word = {
        "better": "better",
        "worse": "worse",
        "unclear": "no clear change",
        "few": "too few tiles for an interval",
        "none": "",
    }[kind]
    interval = (
        f" [{signed(change['low'], digits)} to {signed(change['high'], digits)}]"
        if change["low"] is not None
        else ""
    )
    mark = f'<span class="mark {kind}">{word}</span>' if word else ""
    improved = f", improved on {percent(change['share_improved'])} of tiles" if kind != "none" else ""
    missing = f"; {plural(change['missing'], 'tile')} without a value" if change["missing"] else ""
    return (
        f"{label} {mark} {number(change['median_before'], digits)} → {number(change['median_after'], digits)}, "
        f"change {signed(change['median'], digits)}{interval}{improved}{missing}."
    )


def _single_sentence(data: ReportData, column: Column) -> str:
    """Describe one score of one image."""
    values, digits = data.entry(column)["image"], data.decimals[column.name]
    if not values["count"]:
        return f"<strong>{escape(column.label)}</strong>: no tile has it."
    missing = f"; {plural(values['missing'], 'tile')} without a value" if values["missing"] else ""
    return (
        f"<strong>{escape(column.label)}</strong> {number(values['median'], digits)} in the median, "
        f"half of the tiles between {number(values['q25'], digits)} and {number(values['q75'], digits)}{missing}"
        f"{' (' + column.better + ')' if column.better else ''}."
    )


def _smoothing(data: ReportData) -> list[str]:
    """Name the plain columns gone worse, and report smoothing and a shift in grey."""
    kinds = {}
    for column in data.group("plain"):
        if data.twin(column):
            kinds[column.name] = verdict_of(data.entry(column)["change"], column)
    lines = []
    if kinds.get("noise") == "better" and kinds.get("sharpness") == "worse":
        lines.append("Noise and sharpness both fell: the image was smoothed, which the scores can reward.")
    for name, kind in kinds.items():
        change, digits = data.entry(COLUMNS[name])["change"], data.decimals[name]
        if kind == "worse" and name in MATTERS and _matters(change, MATTERS[name]):
            lines.append(
                f'<span class="mark worse">worse</span> {escape(COLUMNS[name].label)}: '
                f"{number(change['median_before'], digits)} → {number(change['median_after'], digits)} "
                f"{escape(COLUMNS[name].unit)}."
            )
    mean = data.summary["metrics"].get("mean", {}).get("change")
    if mean and mean["median"] is not None and abs(mean["median"]) > MOVED_GREY:
        lines.append(
            f'<span class="mark worse">moved</span> Mean grey changed by {signed(mean["median"], 1)} % of the range.'
        )
    return lines


def _matters(change: Mapping[str, Any], least: float) -> bool:
    """Tell whether a change is large enough to be spoken of."""
    size = abs(float(change["median"] or 0.0))
    return size >= least and size >= MATTERS_SHARE * abs(float(change["median_before"] or 0.0))


def _restored(data: ReportData) -> list[str]:
    """Describe a restored image: its agreement with the input, and its invented detail."""
    metrics = data.summary["metrics"]
    lines = []
    residual = metrics.get("residual", {}).get("image", {}).get("median")
    if residual is not None:
        agrees = residual <= RESIDUAL_OVER_NOISE
        mark = "" if agrees else '<span class="mark worse">disagrees</span> '
        lines.append(
            f"{mark}Degraded again, the restored tiles differ from the input by {number(residual, 2)} times its noise"
            + (
                ": they agree with it."
                if agrees
                else ", more than noise explains: do not trust them without a look."
            )
        )
    invented = metrics.get("invented", {}).get("image", {})
    if invented.get("median") is not None:
        median, many = number(invented["median"], 1), number(invented["q95"], 1)
        said = f"{median} % in the median tile, {many} % or more in one of twenty"
        if invented["q95"] < LEAST_INVENTED:
            said = "none in nineteen of twenty tiles"
        lines.append(f"Fine detail whose like is not in the input: {said}.")
    return [*lines, *_blob_sentence(data)]


def _blob_sentence(data: ReportData) -> list[str]:
    """Say how many blobs of cell size the input does not show."""
    if not {"blobs", "blobs_unsupported"} <= data.table.keys():
        return []
    blobs, missing = (
        int(np.nansum(data.table[name][data.paired])) for name in ("blobs", "blobs_unsupported")
    )
    pixels = int(np.sum((data.table["height"] * data.table["width"])[data.paired]))
    if not blobs:
        return []
    return [
        f"Of {plural(blobs, 'dark blob')} of cell size, {count(missing)} ({number(100 * missing / blobs, 2)} %, "
        f"{number(1e6 * missing / pixels, 1)} per megapixel) have no counterpart "
        "in the input that is at least a third as strong: blur hid them and they were brought back, or they were "
        "invented. Before cells are counted, look at the tiles that have most of them: sort the tiles by “Blobs without "
        "support”, or look at its map."
    ]


def _grey_jump_sentence(data: ReportData) -> list[str]:
    """Say whether brightness jumps from section to section."""
    jumps = data.summary.get("grey_jumps", {})
    if "image" not in jumps:
        return []
    image, before = jumps["image"], jumps.get("before")
    text = (
        f"Brightness from section to section: {plural(len(image['marked']), 'jump')} marked, "
        f"the largest {number(image['largest'], 1)} % of the range, {number(image['typical'], 1)} % typically"
    )
    if before:
        text += f"; before {len(before['marked'])}, {number(before['largest'], 1)} % and {number(before['typical'], 1)} %"
    return [text + "."]
