"""Small networks as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FLOAT, HALF, BYTE = 1, 10, 2
"""Element types of ONNX."""
Shape = tuple[int | str, ...]
FREE: Shape = ("n", 1, "h", "w")


def saved(path: Path, given: Shape, nodes: list[Any], weights: dict[str, Any], **options: Any) -> Path:
    """Write a network from `x` of a shape to `y`, of as many axes or of `axes`."""
    import onnx

    helper = onnx.helper
    kind, inputs, outputs = (
        options.pop("kind", FLOAT),
        options.pop("inputs", ["x"]),
        options.pop("outputs", ["y"]),
    )
    shape_made = ["a", "b", "c", "d", "e"][: options.pop("axes", len(given))]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, kind, given) for name in inputs],
        [helper.make_tensor_value_info(name, kind, shape_made) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    domains = [helper.make_opsetid("", 17), *options.pop("domains", [])]
    path.write_bytes(helper.make_model(graph, opset_imports=domains, ir_version=8).SerializeToString())
    return path


def node(kind: str, given: list[str], made: str, **options: Any) -> Any:
    import onnx

    return onnx.helper.make_node(kind, given, [made], **options)


def pooled(path: Path, given: Shape, scale: int = 1) -> Path:
    """Write a network that sharpens, and adds the mean of all that it sees; of frames it sees the first."""
    frames, channels = len(given) == 5, int(given[-3])
    rng = np.random.default_rng(0)
    made = channels * scale**2
    taps = rng.normal(0, 0.2, (made, channels, 3, 3)).astype(np.float32)
    weights: dict[str, Any] = {"taps": taps, "first": np.int64(0), "share": np.float32(0.3)}
    nodes = (
        [node("Gather", ["x", "first"], "image", axis=1)] if frames else [node("Identity", ["x"], "image")]
    )
    nodes += [
        node("Conv", ["image", "taps"], "edges", pads=[1, 1, 1, 1]),
        node("DepthToSpace", ["edges"], "large", blocksize=scale),
        node("ReduceMean", ["image"], "mean", axes=[1, 2, 3]),
        node("Mul", ["mean", "share"], "offset"),
        node("Add", ["large", "offset"], "y"),
    ]
    return saved(path, given, nodes, weights, axes=4)
