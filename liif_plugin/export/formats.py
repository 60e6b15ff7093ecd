"""A part of a network -> a file (ONNX, or torch.export's .pt2), and files -> a function to compare with."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Union

import torch
from torch import Tensor

from ..errors import UserError
from .check import Run
from .parts import DecoderPart, EncoderPart

OLDEST = "2.6"  # of PyTorch: the first whose exporter takes all that is asked of it here
OPSET = 18  # the oldest that PyTorch's exporter writes without converting: as many runtimes as possible
# All sizes differ and none is 1, because torch.export treats equal sizes as one dimension.
EXAMPLE = {"batch": 2, "height": 11, "width": 14, "queries": 37}
Part = Union[EncoderPart, DecoderPart]


def _example(part: Part) -> tuple[Tensor, ...]:
    return tuple(
        torch.rand([EXAMPLE[n] if isinstance(n, str) else n for n in shape]) for shape in part.inputs.values()
    )


def _free_sizes(part: Part) -> tuple:
    """Return the free sizes of each input as torch.export takes them: one tuple for a *args."""
    free = {name: torch.export.Dim(name, min=1) for name in EXAMPLE}
    shapes = tuple(
        {axis: free[n] for axis, n in enumerate(shape) if n in free} for shape in part.inputs.values()
    )
    return shapes if isinstance(part, EncoderPart) else (shapes,)


def write_onnx(part: Part, path: str) -> None:
    """Write a part as ONNX. Raise whatever the exporter raises."""
    from onnxscript import optimizer

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # optimize=False: its rules take numbers below 1e-8 for 0, and drop the 1e-9 that keeps the areas of
        # the ensemble above zero
        program = torch.onnx.export(
            part.eval(),
            _example(part),
            dynamo=True,
            verbose=False,
            optimize=False,
            opset_version=OPSET,
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            dynamic_shapes=_free_sizes(part),
        )
        assert program is not None
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
        program.save(path, external_data=False)


def write_torch(part: Part, path: str) -> None:
    """Write a part as torch.export's .pt2. Raise whatever the exporter raises."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.export.save(
            torch.export.export(part.eval(), _example(part), dynamic_shapes=_free_sizes(part)), path
        )


def run_onnx(encoder: str, decoder: str) -> Run:
    """Check both files by onnx.checker; return them as one function, run by onnxruntime on the CPU."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for path in (encoder, decoder):
        onnx.checker.check_model(path, full_check=True)
    first, second = (
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for path in (encoder, decoder)
    )

    def run(lq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        values = dict(
            zip([output.name for output in first.get_outputs()], first.run(None, {"lq": lq.numpy()}))
        )
        values.update(coord=coord.contiguous().numpy(), cell=cell.contiguous().numpy())
        return torch.from_numpy(
            second.run(["rgb"], {one.name: values[one.name] for one in second.get_inputs()})[0]
        )

    return run


def run_torch(encoder: str, decoder: str) -> Run:
    """Return the two files as one function, run by PyTorch."""
    programs = [torch.export.load(path) for path in (encoder, decoder)]
    first, second = (program.module() for program in programs)
    # Without the cell for a network that does not look at it
    count = len(programs[1].graph_signature.user_inputs)

    def run(lq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        features = first(lq)
        given = [*(features if isinstance(features, (tuple, list)) else [features]), coord, cell]
        return second(*given[:count])

    return run


@dataclass(frozen=True)
class Format:
    """A format of the two files.

    Attributes:
        suffix: of both files.
        needs: packages that must be importable.
        write: writes a part to a path, such as ``write_onnx``.
        run: makes a function of both files, such as ``run_onnx``.
    """

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[Part, str], None]
    run: Callable[[str, str], Run]


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxruntime", "onnxscript"), write_onnx, run_onnx),
    "torch": Format(".pt2", (), write_torch, run_torch),
}


def check_installed(name: str) -> None:
    """Raise UserError where a package is missing or too old that the format called ``name`` needs."""
    if torch.torch_version.TorchVersion(torch.__version__) < OLDEST:
        raise UserError(f"export needs PyTorch {OLDEST} or newer; this is {torch.__version__}.")
    missing = [package for package in FORMATS[name].needs if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"format {name} needs {' and '.join(missing)}: `pip install 'liif-plugin[export]'`.")
