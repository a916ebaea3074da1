"""The PyTorch front end: `import_exported` turns a `torch.export.ExportedProgram` into a Graph. The only place that knows torch."""

from . import (
    assertions,
    attention,
    contraction,
    create,
    elementwise,
    experts,
    indexing,
    normalization,
    reduction,
    resize,
    scatter,
    shape,
    sorting,
    window,
)
from .export import decomposed, export_module
from .huggingface import open_folder
from .importer import batch_dims, import_exported
from .model import ExportedModel, open_program

#: The files that register rules, by subject.
SUBJECTS = (
    *(assertions, attention, contraction, create, elementwise, experts, indexing, normalization, reduction, resize),
    *(scatter, shape, sorting, window),
)

__all__ = [
    "SUBJECTS",
    "ExportedModel",
    "batch_dims",
    "decomposed",
    "export_module",
    "import_exported",
    "open_folder",
    "open_program",
]
