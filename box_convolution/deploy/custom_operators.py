"""The box convolution as an operator of onnxruntime, in a library with the C++ kernels: fast files, but not portable.

The library is an option of the build, because it needs a header of onnxruntime (CMakeLists.txt, ONNXRUNTIME_INCLUDE).
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import ops
from ..ops import build_record

DOMAIN = "box_convolution"
_NAME = {"win32": "box_conv2d_onnxruntime.dll", "darwin": "libbox_conv2d_onnxruntime.dylib"}
_FILE = _NAME.get(sys.platform, "libbox_conv2d_onnxruntime.so")


def library() -> Path | None:
    """Return the library for `onnxruntime.SessionOptions.register_custom_ops_library`; None if it was not built."""
    return next((path for folder in ops.__path__ if (path := Path(folder) / _FILE).is_file()), None)


def remedy() -> str:
    setting = "-C cmake.define.ONNXRUNTIME_INCLUDE=FOLDER, the one with onnxruntime_c_api.h"
    return f"{_FILE}, which was not built: {build_record.reinstall()} {setting}"


def decompositions() -> dict[Any, Callable[..., Tensor]]:
    """For `ExportedProgram.run_decompositions`: box_conv2d by box_conv2d_fused, the only operator of the library."""
    fused = torch.ops.box_convolution.box_conv2d_fused

    def box_conv2d(input: Tensor, boxes: Tensor, normalize: bool = True, stride: int = 1) -> Tensor:
        output: Tensor = fused(input, boxes, normalize=normalize, stride=stride)
        return output

    return {torch.ops.box_convolution.box_conv2d.default: box_conv2d}


def translations() -> dict[Any, Any]:
    """For `torch.onnx.export`: how to write box_conv2d_fused into the file."""
    from onnxscript.values import Op, Opset

    operator = Op(Opset(DOMAIN, 1), "BoxConv2d", _schema())

    def box_conv2d_fused(  # type: ignore[no-untyped-def]  # the exporter reads annotations, and takes those for attributes
        input, boxes, scale=None, shift=None, residual=None, relu: bool = False, normalize: bool = True, stride: int = 1
    ):
        flags = {"relu": int(relu), "normalize": int(normalize)}
        return operator(input, boxes, scale, shift, residual, **flags, stride=stride)

    return {torch.ops.box_convolution.box_conv2d_fused.default: box_conv2d_fused}


def _schema() -> Any:
    """The operator's inputs and attributes, the same as in ops/csrc/onnxruntime_operator.cpp."""
    from onnx import defs

    def parameter(name: str, **options: Any) -> Any:
        return defs.OpSchema.FormalParameter(name, "T", **options)

    optional = {"param_option": defs.OpSchema.FormalParameterOption.Optional}
    return defs.OpSchema(
        "BoxConv2d",
        DOMAIN,
        1,
        inputs=[
            *(parameter(name) for name in ("input", "boxes")),
            *(parameter(name, **optional) for name in ("scale", "shift", "residual")),
        ],
        outputs=[parameter("output")],
        type_constraints=[("T", ["tensor(float)"], "")],
        attributes=[
            defs.OpSchema.Attribute(name, defs.OpSchema.AttrType.INT, "", required=True)
            for name in ("normalize", "relu", "stride")
        ],
    )
