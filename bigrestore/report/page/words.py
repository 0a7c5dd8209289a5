"""What the verdict says: which scores became better or worse, and what the figures beside them mean for that.

What the scores cannot see is said in the same breath, because a smoothed, drifted or invented image can have the best
scores of all. The page and the end of a command say the same sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from bigrestore.report.metrics.columns import COLUMNS, Column
from bigrestore.report.page.data import ReportData, SummaryData
from bigrestore.report.shown import listed, number, percent, plural, short_name, signed
from bigrestore.run.profile.words import of_sections

MATTERS = {"noise": 1e-3, "stripes_rows": 1e-3, "stripes_columns": 1e-3, "shading": 1e-2, "clipped": 1e-3}
"""Changes of the plain columns that are worth a sentence, as shares of the range: a quarter of a grey level of 256, that of
a slow shade, one pixel in a thousand. With many tiles a far smaller one is certain, and does not matter."""

MATTERS_SHARE = 0.1


AGREES = 1.5
"""Residual, in units of the noise, up to which the restored tiles agree with the input."""

NOTHING_INVENTED = 0.0005
"""Share of invented detail below which none is named."""

NIQE_PX = 192
"""Side of the smallest tile that NIQE reads."""

MOVED = 0.01
"""Change of the mean grey, as a share of the range, that is worth a sentence."""

LIMITS = (
    "NIQE, BRISQUE and PIQE are statistics of natural images: lower is better, trained on photographs, use for the same "
    "field before and after."
)

VERDICTS = {
    "better": "better",
    "worse": "worse",
    "unclear": "no clear change",
    "few": "too few tiles to say",
}
"""The verdict on one score, in words."""


class Sentence(NamedTuple):
    """A sentence of the verdict.

    Attributes
    ----------
    topic : str
        What it is about, in a word.
    text : str
        The sentence, with its full stop.
    mark : str
        A word of warning before it; empty: none.
    more : str
        What the page says besides.
    """

    topic: str
    text: str
    mark: str = ""
    more: str = ""


def headline(data: SummaryData) -> str:
    """Return the shortest true sentence."""
    if not data.summary["tiles"]["valid"]:
        return "No tile could be scored"
    if not data.pair:
        return "One image, scored"
    labels: dict[str, list[str]] = {}
    twins = [each for each in data.group("reference") + data.group("score") if each in data.twins]
    if not twins:
        return "No score before and after was asked for"
    for column in twins:
        change = data.entry(column)["change"]
        if change["count"]:
            labels.setdefault(change["verdict"], []).append(column.label)
    if not labels or "few" in labels:
        return "Too few tiles for a verdict" if labels else "No tile is valid in both images"
    parts = [f"{name} by {listed(labels[name])}" for name in ("better", "worse") if name in labels]
    if "unclear" in labels:
        parts.append(f"{'unclear' if parts else 'no clear change'} by {listed(labels['unclear'])}")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]


def verdict(data: ReportData) -> dict[str, Any]:
    """Return what `verdict.html` shows."""
    scored = set(data.table["z"][data.paired].tolist())
    return {
        "headline": headline(data),
        "unscored": [z for z in data.sections if z not in scored],
        "said_of": {each["z"]: each["says"] for each in data.facts.get("read", ())},
        "kinds": VERDICTS,
        "sentences": sentences(data),
        "limits": LIMITS,
    }


def read_words(data: SummaryData) -> str:
    """Return what was read of the sections, without a full stop; empty if nothing was."""
    return of_sections(data.facts.get("read", ()))


def done_words(data: SummaryData) -> str:
    """Return what was done to the image before, without a full stop; empty if it is not known."""
    method, model, scale = (data.facts.get(name) for name in ("method", "model", "scale"))
    realness = method.get("realness") if isinstance(method, Mapping) else None
    learned = method.get("objective") if isinstance(method, Mapping) else None
    method = method.get("name") if isinstance(method, Mapping) else method
    if not data.pair or not (method or model):
        return ""
    by = f"the model {short_name(model)}" if model else f"the method {method}"
    if realness:
        by += f", realness {realness:g}" + (f" by the map of {learned['model']}" if learned else "")
    if scale in (None, 1):
        return f"restored at the same size by {by}"
    return f"enlarged {scale} times by {by}; before is the input interpolated to the same grid"


def score_words(data: SummaryData, column: Column) -> str:
    """Return one score: before and after with the verdict on its change, or its value."""
    entry = data.entry(column)
    change, image = entry.get("change"), entry["image"]
    if change is None:
        if not image["count"]:
            return "no tile has it"
        note = f" ({column.note})" if column.note else ""
        half = f"half of the tiles from {data.number(column, image['q25'])} to {data.number(column, image['q75'])}"
        return f"{data.number(column, image['median'])}{note}; {half}"
    if not change["count"]:
        small = column.name == "niqe" and (data.facts.get("tile_px") or NIQE_PX) < NIQE_PX
        return f"no tile has it in both images{f': it needs tiles of {NIQE_PX} px' if small else ''}"
    interval = ""
    if change["low"] is not None:
        interval = f" [{data.signed(column, change['low'])} to {data.signed(column, change['high'])}]"
    said = (
        f"{_before_and_after(data, column)}, {VERDICTS.get(change['verdict'], 'changed')}: change per tile "
    )
    said += f"{data.signed(column, change['median'])}{interval}"
    if change["share_improved"] is not None:
        said += f", improved on {percent(change['share_improved'])} of tiles"
    return said + (f"; {lacking_words(column, change['missing'])}" if change["missing"] else "")


def lacking_words(column: Column, count: int) -> str:
    """Return how many tiles have no value of a figure, and why."""
    return f"{plural(count, 'tile')} without a value{f' ({column.lacking})' if column.lacking else ''}"


def sentences(data: SummaryData) -> list[Sentence]:
    """Return the verdict beyond the scores: what was read and done, and what the figures mean."""
    read, done = read_words(data), done_words(data)
    return [
        *_left_out(data),
        *([Sentence("read", f"What was read of the input: {read}.")] if read else []),
        *([Sentence("done", f"What was done: {done}.")] if done else []),
        *_of_the_scope(data),
        *_changes(data),
        *_of_the_restored(data),
        *_of_grey_jumps(data),
    ]


def _of_the_scope(data: SummaryData) -> list[Sentence]:
    """Return the sentence about a method that is not for measuring, in its own words."""
    method = data.facts.get("method")
    scope = method.get("scope") if isinstance(method, Mapping) else None
    return [Sentence("scope", f"The method is {scope}.", "invents")] if isinstance(scope, str) else []


def _left_out(data: SummaryData) -> list[Sentence]:
    """Return the sentences about tiles without scores."""
    tiles, said = data.summary["tiles"], []
    if not tiles["valid"]:
        why = ", ".join(f"{count:,} {name}" for name, count in tiles["invalid"].items())
        text = f"All {tiles['total']:,} tiles were left out ({why}): blank, flat and background tiles get no number."
        said.append(Sentence("tiles", text))
    if tiles["invalid"].get("failed"):
        failed = plural(tiles["invalid"]["failed"], "tile")
        said.append(
            Sentence("tiles", f"{failed} could not be scored; the reasons stand at the end.", "failed")
        )
    return said


def _changes(data: SummaryData) -> list[Sentence]:
    """Return the sentences about the figures beside the scores, before and after."""
    changes = {column.name: data.entry(column)["change"] for column in data.twins}
    kinds = {name: change["verdict"] for name, change in changes.items()}
    medians = {name: change["median"] or 0.0 for name, change in changes.items()}
    worse = [name for name in MATTERS if kinds.get(name) == "worse" and _matters(name, changes[name])]
    said, beside = [], []
    for column in (COLUMNS[name] for name in ("noise", "sharpness") if changes.get(name, {}).get("count")):
        if column.name in worse:
            continue  # it has a sentence of its own
        before, after = (changes[column.name][name] for name in ("median_before", "median_after"))
        same = data.number(column, before) == data.number(column, after)
        moved = "stayed" if same else "rose" if after > before else "fell"
        beside.append(f"{column.label.lower()} {moved} ({_before_and_after(data, column)})")
    if beside:
        said.append(Sentence("besides", f"Measured beside the scores: {', '.join(beside)}."))
    if medians.get("piqe", 0) > 0 > medians.get("noise", 0):
        text = (
            "PIQE rose while the noise fell. It takes the smooth edges of structured blocks for distortion, and "
            "denoising leaves more of them; its rise alone is no sign of lost detail."
        )
        said.append(Sentence("PIQE", text))
    if kinds.get("noise") == "better" and kinds.get("sharpness") == "worse":
        text = "Noise and sharpness both fell: the image was smoothed, which the scores can reward."
        said.append(Sentence("smoothed", text, "smoothed"))
    for column in (COLUMNS[name] for name in worse):
        text = f"{column.label} rose: {_before_and_after(data, column)}."
        said.append(Sentence(column.label.lower(), text, "worse"))
    if abs(medians.get("mean", 0)) > MOVED:
        text = f"Mean grey changed by {signed(100 * medians['mean'], 1)} % of the range."
        said.append(Sentence("grey", text, "moved"))
    return said


def _of_the_restored(data: SummaryData) -> list[Sentence]:
    """Return the sentences about agreement with the input, invented detail and blobs; nothing of what is unknown."""
    said, metrics = [], data.summary["metrics"]
    residual = (metrics.get("residual") or {"image": {"median": None}})["image"]["median"]
    if residual is not None:  # unknown where no noise was read
        agrees = residual <= AGREES
        text = (
            f"Degraded again, the restored tiles differ from the input by {number(residual, 2)} times its noise"
            f"{': they agree with it' if agrees else ', more than noise explains: do not trust them without a look'}."
        )
        said.append(Sentence("agreement", text, "" if agrees else "disagrees"))
    invented = (metrics.get("invented") or {"image": {"median": None}})["image"]
    if invented["median"] is not None:
        shares = (
            f"{number(100 * invented['median'], 1)} % in the median tile, {number(100 * invented['q95'], 1)} % or more in "
            "one of twenty"
        )
        if invented["q95"] < NOTHING_INVENTED:
            shares = "none in nineteen of twenty tiles"
        said.append(Sentence("invented", f"Fine detail whose like is not in the input: {shares}."))
    said += _of_the_likelihood(data)
    blobs = data.summary.get("blobs")
    if blobs and blobs["found"]:
        share = number(100 * blobs["unsupported"] / blobs["found"], 2)
        density = number(blobs["unsupported"] / blobs["megapixels"], 1)
        text = (
            f"Of {plural(blobs['found'], 'dark blob')} of cell size, {blobs['unsupported']:,} ({share} %, {density} per "
            "megapixel) have no counterpart in the input that is at least a third as strong"
        )
        more = (
            ": blur hid them and they were brought back, or they were invented. Before cells are counted, look at the tiles "
            "that have most of them: sort the tiles by “Blobs without support”, or look at its map."
        )
        said.append(Sentence("blobs", text, more=more if blobs["unsupported"] else "."))
    return said


def _of_the_likelihood(data: SummaryData) -> list[Sentence]:
    """Return the sentences about how likely the input is, given the image, and where it is not."""
    said, metrics = [], data.summary["metrics"]
    bits, excess = (
        (metrics.get(name) or {"image": {"median": None}})["image"]["median"]
        for name in ("likelihood", "likelihood_excess")
    )
    if bits is not None:
        above = "" if excess is None else f", {number(excess, 2)} more than its noise has"
        text = (
            f"Given the image, the input still says {number(bits, 2)} bits a pixel{above}. A bit more or above contradicts "
            "the image; less does not rank sharpness, an image that is too soft has the same."
        )
        said.append(Sentence("likelihood", text))
    unlikely = data.facts.get("unlikely")
    if unlikely and unlikely["pixels"]:
        share = number(100 * unlikely["above"] / unlikely["pixels"], 2)
        text = f"The input contradicts the image (z above {unlikely['limit']:g}) in {share} % of the tissue"
        first, end = data.facts.get("sections") or (0, 1)
        places = ", ".join(
            ("" if end - first == 1 else f"section {place['z']}, ")
            + f"y {place['y']}, x {place['x']} (z {number(place['unlikely'], 1)})"
            for place in unlikely["places"]
        )
        said.append(Sentence("unlikely", text, more=f"; worst at {places}." if places else "."))
    return said


def _of_grey_jumps(data: SummaryData) -> list[Sentence]:
    """Return the sentence about the brightness of a volume's sections."""
    jumps = data.summary.get("grey_jumps", {})
    if not jumps.get("image"):
        return []
    image, before = jumps["image"], jumps.get("before")
    text = (
        f"Brightness from section to section: {plural(len(image['marked']), 'jump')} marked, the largest "
        f"{number(100 * image['largest'], 1)} % of the range, {number(100 * image['typical'], 1)} % typically"
    )
    if before:
        text += (
            f"; before {len(before['marked'])}, {number(100 * before['largest'], 1)} % and "
            f"{number(100 * before['typical'], 1)} %"
        )
    return [Sentence("brightness", f"{text}.")]


def _before_and_after(data: SummaryData, column: Column) -> str:
    """Return the medians of a figure before and after, with its unit."""
    change = data.entry(column)["change"]
    before, after = (data.number(column, change[name]) for name in ("median_before", "median_after"))
    return f"{before} → {after}{f' {column.unit}' if column.unit else ''}"


def _matters(name: str, change: Mapping[str, Any]) -> bool:
    """Tell whether a change is large enough to be spoken of."""
    size, before = abs(float(change["median"] or 0)), abs(float(change["median_before"] or 0))
    return size >= max(MATTERS[name], MATTERS_SHARE * before)
