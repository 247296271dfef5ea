"""Decoding and suppression of boxes as an ONNX graph behind the raw outputs of a detector.

It computes what `mobilenext.detection.decode` does, with the operators of ONNX: the priors are constants, each class is
suppressed by NonMaxSuppression, and the best of a picture are taken over all classes. Ties, where the lower prior comes
first, are ordered so by ONNX Runtime; OpenVINO leaves open which of equal scores it takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mobilenext.detection.coding import CENTER_VARIANCE, SIZE_VARIANCE
from mobilenext.detection.priors import prior_boxes
from mobilenext.models.detector_form import Form

INPUT = "images"  # of the graph; `image` is one of its outputs

# N pictures, P priors, K classes, M boxes in the answer. Tensors begin with "box_", as names of the network do not. The
# scores that were selected are put back into zeros [N, P * K]: of equal ones, TopK takes that with the lower place, the
# lower prior's.
_NODES = """
    box_offsets, box_scales = Split <axis = 2> (raw_regressions)
    box_moves = Mul (box_offsets, box_center_factors)
    box_centers = Add (box_moves, box_prior_centers)
    box_exponents = Mul (box_scales, box_size_variance)
    box_factors = Exp (box_exponents)
    box_halves = Mul (box_factors, box_half_priors)
    box_first = Sub (box_centers, box_halves)
    box_second = Add (box_centers, box_halves)
    box_all = Concat <axis = 2> (box_first, box_second)

    box_probabilities = {activation} (raw_scores)
    box_columns = Slice (box_probabilities, box_column_start, box_column_end, box_column_axis)
    box_by_class = Transpose <perm = [0, 2, 1]> (box_columns)
    box_triples = NonMaxSuppression (box_all, box_by_class, box_most, box_iou_threshold, box_score_threshold)
    box_picture, box_class, box_prior = Split <axis = 1> (box_triples)
    box_places = Concat <axis = 1> (box_picture, box_prior, box_class)
    box_selected = GatherND (box_columns, box_places)
    box_shape = Shape (box_columns)
    box_zeros = ConstantOfShape (box_shape)
    box_left = ScatterND (box_zeros, box_places, box_selected)
    box_rows = Reshape (box_left, box_flat)

    box_best, box_best_places = TopK <axis = 1> (box_rows, box_limit)
    box_is_there = Greater (box_best, box_nothing)
    box_there = NonZero (box_is_there)
    box_there_pairs = Transpose <perm = [1, 0]> (box_there)
    scores = GatherND (box_best, box_there_pairs)
    box_place = GatherND (box_best_places, box_there_pairs)
    box_place_prior = Div (box_place, box_classes)
    box_place_first = Mul (box_place_prior, box_classes)
    box_column = Sub (box_place, box_place_first)
    labels = Add (box_column, box_one)
    image = Gather <axis = 0> (box_there, box_first_row)
    box_image_column = Unsqueeze (image, box_one_axis)
    box_prior_column = Unsqueeze (box_place_prior, box_one_axis)
    box_pairs = Concat <axis = 1> (box_image_column, box_prior_column)
    boxes = GatherND (box_all, box_pairs)
"""


def append_boxes(model: Any, form: Form, num_classes: int) -> Any:
    """Return an ONNX model whose outputs are boxes, in place of the raw outputs of the detector.

        boxes [M, 4]   float32, x1 y1 x2 y2 in pixels of the input, not clipped
        labels [M]     int64, classes from 1
        scores [M]     float32
        image [M]      int64, the position of the picture in the batch

    The input's name becomes `INPUT`. The pictures come in their order, of each the best first, ties by the lower prior;
    M is 0 where nothing was found.

    Args:
        model: an ``onnx.ModelProto`` of opset 13 with the outputs scores [N, P, C] and regressions [N, P, 4]; is
            changed.
        form: of the detector.
        num_classes: without background.
    """
    import onnx
    from onnx import numpy_helper, parser

    # Names of the new graph's outputs are among those of the network.
    renamed = {"scores": "raw_scores", "regressions": "raw_regressions", "image": INPUT}
    for value in model.graph.input:
        value.name = renamed.get(value.name, value.name)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    constants = _constants(form, num_classes)
    nodes = _NODES.format(activation="Sigmoid" if form.loss == "focal" else "Softmax <axis = 2>")
    signature = (
        f"detector (float[N, {form.priors}, {num_classes + 1}] raw_scores, float[N, {form.priors}, 4] raw_regressions) "
        "=> (float[M, 4] boxes, int64[M] labels, float[M] scores, int64[M] image)"
    )
    graph = parser.parse_graph(f"{signature} {{{nodes}}}")
    for number, node in enumerate(graph.node):
        node.name = f"boxes_{node.op_type.lower()}_{number}"
    model.graph.node.extend(graph.node)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    del model.graph.output[:]
    model.graph.output.extend(graph.output)
    onnx.checker.check_model(model)
    return model


def _constants(form: Form, num_classes: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return the constants of the graph by name."""
    priors = prior_boxes(form).astype(np.float64) * form.image_size  # [P, 4], centers and sides in pixels of the input
    focal = form.loss == "focal"
    arrays: dict[str, tuple[Any, type[np.generic]]] = {
        "box_prior_centers": (priors[:, :2], np.float32),
        "box_center_factors": (priors[:, 2:] * float(CENTER_VARIANCE), np.float32),
        "box_half_priors": (priors[:, 2:] / 2, np.float32),
        "box_size_variance": (SIZE_VARIANCE, np.float32),
        # Column 0 is background in the form voc; the last column of coco stands for nothing.
        "box_column_start": ([0 if focal else 1], np.int64),
        "box_column_end": ([num_classes if focal else num_classes + 1], np.int64),
        "box_column_axis": ([2], np.int64),
        # Of a class, in falling order: no class has more than all of the best boxes over the classes.
        "box_most": ([form.limit], np.int64),
        "box_iou_threshold": ([form.iou_threshold], np.float32),
        "box_score_threshold": ([form.score_threshold], np.float32),
        "box_flat": ([0, -1], np.int64),
        "box_limit": ([min(form.limit, form.priors * num_classes)], np.int64),
        "box_nothing": (0, np.float32),
        "box_classes": (num_classes, np.int64),
        "box_one": (1, np.int64),
        "box_first_row": (0, np.int64),
        "box_one_axis": ([1], np.int64),
    }
    return {name: np.array(values, kind) for name, (values, kind) in arrays.items()}
