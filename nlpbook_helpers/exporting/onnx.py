"""How does an answer become cheaper? The model as a graph of 8-bit products, where ONNX Runtime is installed."""

import hashlib
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from nlpbook_helpers.features import select_model_inputs
from nlpbook_helpers.runtime import create, find_version, get_cache_dir, supports_int8

logger = logging.getLogger(__name__)

PACKAGES = ("onnxruntime", "onnx", "onnxscript")
LEAST_PARAMETERS = 50_000_000  # a smaller model's weights are read fast enough in PyTorch, and it starts at once
CODE_VERSION = 1  # raise it when the same model would become another graph
BLOCK_SIZE = 128  # numbers that share a scale in a product whose inputs are of very different size
INT8_PRODUCTS = 4  # onnxruntime's "accuracy level" of products in 8 bits
TOLERANCE = 1e-3  # between the model's logits and its graph's, before rounding to 8 bits

REMEDY = "use backend='torch', and export without onnx; or pip install 'nlpbook_helpers[onnx]' if a module is missing"


class QuantizationError(ValueError):
    """A model cannot be expressed as an ONNX graph; the message says what to do."""


class QuantizedModel(torch.nn.Module):
    """Answers as the classifier that it was made from, on the CPU; made by `quantize`.

    Args:
        graph: An ONNX graph with an output `logits`; the file, or what is in it.
        config: The classifier's configuration.
    """

    length_multiple = 1
    """Padding to more than the longest text gains nothing here; see `predict_probabilities`."""

    def __init__(self, graph: Path | bytes, config: Any) -> None:
        super().__init__()
        import onnxruntime  # type: ignore[import-not-found]

        self._graph = graph
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._names = [entry.name for entry in self._session.get_inputs()]
        self.config, self.device = config, torch.device("cpu")

    def __reduce__(self) -> tuple[type, tuple[bytes, Any]]:
        """Travel to another process, or machine, as the graph."""
        graph = self._graph.read_bytes() if isinstance(self._graph, Path) else self._graph
        return QuantizedModel, (graph, self.config)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SimpleNamespace:
        """Answer a batch.

        Args:
            input_ids: int64, (batch, tokens).
            attention_mask: int64, (batch, tokens).
            token_type_ids: int64, (batch, tokens); left aside if the encoder has none.

        Returns:
            `logits`: float32, (batch, labels).
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        (logits,) = self._session.run(["logits"], {name: given[name].numpy() for name in self._names})
        return SimpleNamespace(logits=torch.from_numpy(logits))


def choose_scorer(model: Any, backend: str) -> Any:
    """Return what shall answer: the model itself, or its quantized graph.

    Args:
        model: A `…ForSequenceClassification` in float32, on the CPU.
        backend: "torch", "onnx", or "auto": ONNX Runtime if it is installed, the encoder is large, and the processor
            has instructions for it and no GPU beside it.

    Raises:
        ValueError: There is no such backend.
        QuantizationError: "onnx" was asked for, and its packages are missing, or the model cannot be expressed so.
    """
    if backend not in ("auto", "torch", "onnx"):
        raise ValueError(f"backend: expected 'auto', 'torch' or 'onnx', got {backend!r}")
    is_large = model.num_parameters() >= LEAST_PARAMETERS
    pays = is_large and all(map(find_spec, PACKAGES)) and supports_int8() and not torch.cuda.is_available()
    if backend == "torch" or backend == "auto" and not pays:
        return model
    try:
        return quantize(model)
    except QuantizationError as error:
        if backend == "onnx":
            raise
        logger.warning("answering with PyTorch: %s", error)
        return model


def quantize(model: Any) -> QuantizedModel:
    """Turn a classifier into a graph whose matrix products are of 8-bit integers; kept in the cache folder.

    Weights are rounded once, the inputs of a product at each call, all by one scale. Only those of the second product
    of each feed-forward layer differ too much in size for that: they are rounded in blocks, which halves the error of
    the answers (mean change of a probability of `checkpoints/paircls` 0.005 instead of 0.011). Blocks everywhere would
    halve it again, but make batches slower than PyTorch's. What it costs on NSMC's test file is row P3 of `make bench`.

    Args:
        model: A `…ForSequenceClassification` in float32, on the CPU.

    Raises:
        QuantizationError: There is no such graph, it answers otherwise, or the disk is full.
    """
    with _explaining_failure(model):
        path = get_cache_dir() / f"int8-{_make_fingerprint(model)}.onnx"
        if not path.exists():
            logger.info("making an 8-bit graph of the model, once: this may take half a minute")
            with create(path) as partial:
                exact = partial.with_name("exact.onnx")
                write_graph(model, exact)
                _round_weights(exact, partial)
        return QuantizedModel(path, model.config)


def write_graph(model: Any, path: Path) -> None:
    """Write a classifier as an ONNX graph in float32, and compare the answers of both.

    Args:
        model: A `…ForSequenceClassification` in float32, on the CPU.
        path: The file to write; the weights of a model above 1.5 GB lie beside it.

    Raises:
        QuantizationError: There is no such graph, its logits differ from the model's by more than `TOLERANCE`, or a
            package of the extra `onnx` is missing.
    """
    with _explaining_failure(model):
        inputs = _make_inputs(model, batch=2, tokens=16)
        dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, of no use to an encoder
        with warnings.catch_warnings(action="ignore"):  # between parts of torch
            torch.onnx.export(
                model.eval(), f=path, kwargs=inputs, dynamic_shapes=dict.fromkeys(inputs, dynamic), dynamo=True,
                input_names=list(inputs), output_names=["logits"], external_data=False, verbose=False,
            )  # fmt: skip
        inputs = _make_inputs(model, batch=3, tokens=24)  # another shape than the exporter saw
        with torch.inference_mode():
            change = (QuantizedModel(path, model.config)(**inputs).logits - model(**inputs).logits).abs().max().item()
    if not change <= TOLERANCE:
        wanted = f"expected an ONNX graph of {type(model).__name__} that answers like it"
        raise QuantizationError(f"{wanted}, got logits that differ by {change:.3g}: {REMEDY}")


@contextmanager
def _explaining_failure(model: Any) -> Iterator[None]:
    """Turn what exporter and quantizer raise over a model that they cannot express into one sentence."""
    try:
        yield
    except QuantizationError:
        raise
    except Exception as error:  # onnxruntime's classes and the exporter's have no other base in common
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise QuantizationError(f"{type(model).__name__} has no ONNX graph ({first}): {REMEDY}") from error


def _make_fingerprint(model: Any) -> str:
    weights = {name: zlib.crc32(tensor.contiguous().numpy().data) for name, tensor in model.state_dict().items()}
    versions = (CODE_VERSION, supports_int8(), *map(find_version, ("torch", *PACKAGES)))
    return hashlib.sha256(repr((versions, model.config.to_json_string(), weights)).encode()).hexdigest()[:16]


def _make_inputs(model: Any, batch: int, tokens: int) -> dict[str, Tensor]:
    """Return a batch whose first row is half padding."""
    ids = torch.arange(batch * tokens).reshape(batch, tokens) % (model.config.vocab_size - 10) + 5
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    inputs["attention_mask"][0, tokens // 2 :] = 0
    return select_model_inputs(model, inputs)


def _round_weights(exact: Path, rounded: Path) -> None:
    """Round each output's weights by their own scale, those of contracting products in blocks."""
    import onnx  # type: ignore[import-not-found]

    # onnxruntime writes to the root logger, and sets it up where it has no handler: this one keeps it from both
    logging.root.addHandler(silence := logging.NullHandler())
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-not-found]
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer  # type: ignore[import-not-found]

        graph: Any = onnx.load(exact)
        shapes = {entry.name: tuple(entry.dims) for entry in graph.graph.initializer if len(entry.dims) == 2}
        contracting = {name for name, (inputs, outputs) in shapes.items() if inputs > outputs}
        others = [node.name for node in graph.graph.node if not contracting.intersection(node.input)]
        blockwise: Any = MatMulNBitsQuantizer(
            graph, bits=8, block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=INT8_PRODUCTS,
            nodes_to_exclude=others,
        )  # fmt: skip
        blockwise.process()
        graph = blockwise.model.model
        # shapes as the exporter saw them, which contradict the inference of the next step
        del graph.graph.value_info[:]
        quantize_dynamic(
            graph, rounded, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"],
            reduce_range=not supports_int8(),  # older instructions add up products of 8 bits in 16, which overflow
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )  # fmt: skip
    finally:
        logging.root.removeHandler(silence)
