"""How docstrings are read for the site: `Example:` is what griffe calls `Examples:`, doctests and not running text."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Let griffe see an `Example:` as examples."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rename the heading."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
