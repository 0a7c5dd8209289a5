"""The end of a run: pyramid, metadata, TIFF, and the figures beside the output.

What is the same for the same command goes into the store; time, host and duration go beside it. The store gets its root
metadata last, so a viewer opens only a whole image.
"""

from __future__ import annotations

import platform
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bigrestore.core.urls import shown_arguments
from bigrestore.io.section import Section
from bigrestore.io.store.collection import finish_collection
from bigrestore.io.store.display import map_window, section_name
from bigrestore.io.store.ome_zarr import finish_store
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import MAPS_GROUP
from bigrestore.run.plan import Plan
from bigrestore.run.state.journal import Journal
from bigrestore.run.stop import StopFlag
from bigrestore.run.tile.maps import described, images
from bigrestore.run.view.progress import Progress, phase_shown

RESTORED = "restored"
"""Name of the channel of a restored grey image."""

UNFINISHED = "the blocks are done, finish it by --resume"


def finalize(
    store: Path,
    output: Path,
    plan: Plan,
    section: Section,
    provenance: dict[str, Any],
    progress: Progress,
    flag: StopFlag,
) -> None:
    """Make the output whole: levels from disk, metadata, and the TIFF or zip file asked for.

    Parameters
    ----------
    store, output : Path
        The store that holds level 0, and what the user asked for; they differ for a TIFF.
    plan : Plan
        What the store is.
    section : Section
        The input: its name, and its black and white, are those of the output.
    provenance : dict
        What the store says of how it was made.
    progress : Progress
        Shown the levels' shards.
    flag : StopFlag
        Looked at after each shard, and before each tile of a TIFF.

    Raises
    ------
    StoppedError, KeyboardInterrupt
        Where a signal set the flag; the resumed run does it again.
    """
    name = section_name(section.source)
    *maps, restored = images(store, plan)

    def advance(former: int, done: int, total: int) -> None:
        if former == 0 and done == 1:
            progress.start("finalize", total * (len(maps) + 1))
        progress.advance(former * total + done, 0)
        flag.raise_if_set(UNFINISHED)

    for former, image in enumerate((*maps, restored)):
        build_pyramid(image.path, image.spec, workers=plan.finishers, progress=partial(advance, former))
        flag.raise_if_set(UNFINISHED)
        if image is not restored:
            said = {"map": image.name} | described(plan)[image.name]
            window = map_window(image.path, image.spec)
            finish_store(image.path, image.spec, window, said, name=name, channel=image.name)
    if maps:
        finish_collection(store / MAPS_GROUP, maps[0].spec, name, plan.maps)
    finish_store(store, plan.spec, section.value_range, provenance, name=name, channel=RESTORED)
    if plan.tiff:
        from bigrestore.io.store.tiff import write_pyramidal_tiff

        with phase_shown(progress, "TIFF"):
            write_pyramidal_tiff(
                store,
                output,
                plan.spec,
                provenance,
                name=name,
                channel=RESTORED,
                workers=plan.finishers,
                check=lambda: flag.raise_if_set(UNFINISHED),
            )
    elif plan.zipped:
        from bigrestore.io.store.pack import pack_store

        with phase_shown(progress, "zip file"):
            pack_store(store, output, check=lambda: flag.raise_if_set(UNFINISHED))


def note_run(journal: Journal, facts: dict[str, Any], *, finished: bool, scored: bool) -> None:
    """Write the facts of this very run beside the output: host, command, duration, and whether a report follows."""
    journal.write(
        "run.json",
        facts
        | {
            "finished": finished,
            "scored": scored,
            "host": platform.node(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "argv": shown_arguments(sys.argv),
        },
    )
