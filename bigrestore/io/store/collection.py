"""The images of a group that viewers open as one, in the layout of bioformats2raw.

The attributes of the group say that it holds a collection. A group `OME` in it lists the images, once in its attributes
and once as OME-XML, the list that napari and Bio-Formats read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from bigrestore.core.files import whole_file
from bigrestore.errors import output_error
from bigrestore.io.store.ome_zarr import create_group, put_attributes
from bigrestore.io.store.store_spec import COLLECTION_XML, GROUP_FILES, OME_GROUP, StoreSpec

LAYOUT = {"bioformats2raw.layout": 3}

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_PIXEL_TYPES = {"uint8": "uint8", "uint16": "uint16", "float32": "float"}


def finish_collection(group: Path, spec: StoreSpec, name: str, images: Sequence[str]) -> None:
    """Write the metadata of a group of finished images, all of one spec.

    Doing it again gives the same bytes.

    Parameters
    ----------
    group : Path
        An existing group.
    spec : StoreSpec
        What each image holds.
    name : str
        Of the section.
    images : sequence of str
        Folders of the images in the group, which are the names of their channels as well.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    listing = group / OME_GROUP
    listed, layout = {"series": list(images)}, LAYOUT
    try:
        for file in GROUP_FILES[spec.fmt]:
            (listing / file).unlink(missing_ok=True)
    except OSError as err:
        raise output_error(listing, err) from err
    create_group(listing, spec, {"ome": {"version": "0.5", **listed}} if spec.fmt == "0.5" else listed)
    with whole_file(listing / COLLECTION_XML) as partial:
        partial.write_bytes(_ome_xml(spec, name, images))
    put_attributes(group, {"ome": {"version": "0.5", **layout}} if spec.fmt == "0.5" else layout)


def _ome_xml(spec: StoreSpec, name: str, images: Sequence[str]) -> bytes:
    """Return the list of images as OME-XML; an image is found by its ID."""
    root = ElementTree.Element("OME", {"xmlns": _SCHEMA, "Creator": "bigrestore"})
    sizes = {f"Size{axis}": str(n) for axis, n in zip("ZYX", spec.shape, strict=True)}
    for axis, size in zip("ZYX", spec.voxel_size_um, strict=True):
        if size is not None:
            sizes |= {f"PhysicalSize{axis}": repr(float(size)), f"PhysicalSize{axis}Unit": "\u00b5m"}
    for image in images:
        entry = ElementTree.SubElement(root, "Image", {"ID": f"Image:{image}", "Name": f"{name}: {image}"})
        facts = {"ID": f"Pixels:{image}", "DimensionOrder": "XYZCT", "Type": _PIXEL_TYPES[spec.dtype.name]}
        facts |= sizes | {"SizeC": str(spec.channels), "SizeT": "1"}
        pixels = ElementTree.SubElement(entry, "Pixels", facts)
        channel = {"ID": f"Channel:{image}:0", "Name": image, "SamplesPerPixel": str(spec.channels)}
        ElementTree.SubElement(pixels, "Channel", channel)
        ElementTree.SubElement(pixels, "MetadataOnly")
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text
