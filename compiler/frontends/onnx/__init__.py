"""The ONNX front end: `import_onnx` turns a model file into a Graph. The only place that knows the `onnx` package."""

from . import (
    attention,
    bits,
    classical,
    contraction,
    contrib,
    contrib_attention,
    contrib_norm,
    contrib_quantized,
    control,
    elementwise,
    ensembles,
    experts,
    fourier,
    generate,
    indexing,
    linear_attention,
    ngrams,
    normalization,
    quantization,
    quantized,
    random,
    recurrent,
    reduction,
    resize,
    rotary,
    scatter,
    selecting,
    sequences,
    shape,
    signal,
    sorting,
    spelling,
    support_vectors,
    text,
    training,
    vision,
    window,
)
from .constants import fit_constants
from .dynamic import batch_dims
from .importer import import_onnx

#: The files that register rules, by subject.
SUBJECTS = (
    *(attention, bits, classical, contraction, contrib, contrib_attention, contrib_norm, contrib_quantized),
    *(control, elementwise, ensembles, experts, fourier, generate, indexing, linear_attention, ngrams),
    *(normalization, quantization, quantized, random, recurrent, reduction, resize, rotary),
    *(scatter, selecting, sequences, shape, signal, sorting, spelling, support_vectors, text, training),
    *(vision, window),
)

__all__ = ["SUBJECTS", "batch_dims", "fit_constants", "import_onnx"]
