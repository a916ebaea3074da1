"""Routines in C: for each op of category `routine` a template `<op>.c.j2`, and a row that says what it needs.

A template is the body of the kernel's function: `part` and `parts` are its share, `dims` the plan's symbols. It knows

- `inputs`, as many as the op may have, and `results`: an `Array` each (see `arrays`), or none where an optional input is absent
  or nobody reads a result;
- `attrs`: the op's attributes, defaults filled in; dims are C expressions, floats literals, all else Python values;
- `counts`: for each attribute of kind `sets` the C lvalue of the dim, and `room` its greatest value;
- `scratch`: a `char *` of the bytes asked for, private to the part and aligned to 64 bytes.
"""

from . import attention, indexing, matrix, recurrent, sorting, strings, trees, vision
from .registry import NEEDS, Needs

__all__ = ["NEEDS", "SUBJECTS", "Needs"]

#: The files that register routines, by subject.
SUBJECTS = (attention, indexing, matrix, recurrent, sorting, strings, trees, vision)
