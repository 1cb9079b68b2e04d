"""knockgate: one gate that hides services until the right knock arrives.

The floors, and who may import whom, are drawn in ``docs/design.md`` and checked by import-linter.
"""

__version__ = "0.1.0"
