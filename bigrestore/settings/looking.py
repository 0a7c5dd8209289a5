"""The options of the commands for a look: `info`, `profile`, `status`, `verify`, `view`, `doctor` and `models`."""

from __future__ import annotations

from pathlib import Path

import attrs

from bigrestore.core.files import expand_home
from bigrestore.errors import UsageError
from bigrestore.settings.checks import whole_number
from bigrestore.settings.option import argument, option, verbose_option
from bigrestore.settings.shared import channel_field, series_field

PROFILE_SETTINGS = (
    *("level", "series", "channel", "input_range"),
    *("method", "model", "scale", "kernel", "blur", "noise"),
)
"""Options of `RunSettings` that `profile` takes."""


@attrs.frozen(kw_only=True)
class InfoArguments:
    """What `bigrestore info` takes."""

    file: str = attrs.field(
        converter=expand_home, metadata=argument("A file, store, directory or quoted pattern.")
    )
    level: int = attrs.field(default=0, metadata=option("Level of the pyramid to describe."))
    series: int | None = series_field()
    channel: int | None = channel_field()
    storage_options: str | None = attrs.field(
        default=None, metadata=option("JSON object, or @FILE: keys and endpoints of a remote FILE.")
    )
    as_json: bool = attrs.field(default=False, metadata=option("Print as JSON.", "--json"))
    verbose: bool = attrs.field(default=False, metadata=verbose_option())


@attrs.frozen(kw_only=True)
class ProfileArguments:
    """What `bigrestore profile` takes beside settings of a run."""

    input: str = attrs.field(
        converter=expand_home, metadata=argument("File, store, folder or pattern of section files.", "INPUT")
    )
    z: int | None = attrs.field(
        default=None,
        validator=whole_number(0, 10_000_000, "sections"),
        metadata=option("Section of a volume; without it all sections come, a line each.", "--z"),
    )
    every: int = attrs.field(
        default=1,
        validator=whole_number(1, 10_000_000, "sections", optional=False),
        metadata=option("Of all sections of a volume only every so many.", metavar="N"),
    )
    gain: bool = attrs.field(
        default=True,
        metadata=option(
            "Of all sections of a volume restore six crops of 256 px each for the gain to expect: about half a second a "
            "section on one core.",
            "--gain/--no-gain",
        ),
    )
    output: Path | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option("Draw spectrum and kernel (.png, .pdf, .svg), or write JSON.", "-o", "--output"),
    )
    overwrite: bool = attrs.field(
        default=False, metadata=option("Replace the file of -o though it is no profile, or a picture.")
    )
    neighbours: bool = attrs.field(
        default=False,
        metadata=option("Print instead what the section and the next one of a volume have in common."),
    )
    harmonise: bool = attrs.field(
        default=False, metadata=option("Print instead the tones that `run --harmonise` brings sections to.")
    )
    as_json: bool = attrs.field(default=False, metadata=option("Print the profile as JSON.", "--json"))
    verbose: bool = attrs.field(default=False, metadata=verbose_option())

    def __attrs_post_init__(self) -> None:
        if self.neighbours and self.harmonise:
            raise UsageError("--neighbours and --harmonise print one thing each; give one of them.")
        if self.every != 1 and (self.z is not None or self.neighbours or self.harmonise):
            raise UsageError(f"--every {self.every} thins the lines of all sections out; leave it out here.")
        if not self.gain and (self.z is not None or self.neighbours or self.harmonise):
            raise UsageError("--no-gain leaves a column of the lines of all sections out; leave it out here.")
        if self.output is not None and (self.neighbours or self.harmonise):
            raise UsageError(
                f"-o {self.output} takes the profile of a section; leave it out, and keep what is printed by --json > FILE."
            )


@attrs.frozen(kw_only=True)
class StatusArguments:
    """What `bigrestore status` takes."""

    output: str = attrs.field(
        converter=expand_home, metadata=argument("The output that a run was told to write.")
    )
    as_json: bool = attrs.field(default=False, metadata=option("Print as JSON.", "--json"))
    verbose: bool = attrs.field(default=False, metadata=verbose_option())


@attrs.frozen(kw_only=True)
class VerifyArguments:
    """What `bigrestore verify` takes."""

    store: str = attrs.field(
        converter=expand_home, metadata=argument("An OME-Zarr store or a pyramidal TIFF.")
    )
    as_json: bool = attrs.field(default=False, metadata=option("Print the faults as JSON.", "--json"))
    verbose: bool = attrs.field(default=False, metadata=verbose_option())


@attrs.frozen(kw_only=True)
class ViewArguments:
    """What `bigrestore view` takes."""

    output: str = attrs.field(metadata=argument("An OME-Zarr store or a pyramidal TIFF."))
    before: str | None = attrs.field(
        default=None,
        metadata=option("The input, shown beside it: any file that a run reads.", metavar="INPUT"),
    )
    port: int = attrs.field(
        default=0,
        validator=whole_number(0, 65535, optional=False),
        metadata=option("Port on this machine.", default="a free one"),
    )
    browser: bool = attrs.field(
        default=True, metadata=option("Open the page in a browser.", "--browser/--no-browser")
    )
    verbose: bool = attrs.field(default=False, metadata=verbose_option())


@attrs.frozen(kw_only=True)
class DoctorArguments:
    """What `bigrestore doctor` takes."""

    folder: Path = attrs.field(
        factory=Path,
        converter=expand_home,
        metadata=option("Where outputs would be written.", "--folder", default="here"),
    )
    as_json: bool = attrs.field(default=False, metadata=option("Print as JSON.", "--json"))
    verbose: bool = attrs.field(default=False, metadata=verbose_option())


@attrs.frozen(kw_only=True)
class ModelListArguments:
    """What `bigrestore models list` and `methods` take."""

    as_json: bool = attrs.field(default=False, metadata=option("Print as JSON.", "--json"))
    verbose: bool = attrs.field(default=False, metadata=verbose_option())


@attrs.frozen(kw_only=True)
class ModelArguments:
    """What `bigrestore models path` and `verify` take."""

    name: str = attrs.field(
        converter=expand_home, metadata=argument("Name of a shipped model, or a .safetensors file.")
    )
    verbose: bool = attrs.field(default=False, metadata=verbose_option())


@attrs.frozen(kw_only=True)
class ModelCardArguments:
    """What `bigrestore models show` takes."""

    name: str = attrs.field(
        converter=expand_home, metadata=argument("Name of a shipped model, or a .safetensors file.")
    )
    card: bool = attrs.field(default=False, metadata=option("Print the model card: data, training, figures."))
    as_json: bool = attrs.field(default=False, metadata=option("Print the metadata as JSON.", "--json"))
    verbose: bool = attrs.field(default=False, metadata=verbose_option())
