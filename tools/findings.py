"""Writes the table of docs/operating.md, what `knockgate doctor` finds, out of the code's closed list.

``python -m tools.findings``. A test holds the page to it.
"""

from __future__ import annotations

from pathlib import Path

from knockgate.doctor.finding import Kind

__all__ = ["PAGE", "table"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operating.md"
_BEGIN, _END = "<!-- findings: made by `python -m tools.findings` -->\n", "<!-- end of findings -->\n"


def table() -> str:
    """The table as Markdown, between its marks."""
    rows = ["| topic | finding | at most | why it matters |", "|---|---|---|---|"]
    for kind in Kind:
        topic, severity, why = kind.value
        rows.append(f"| {topic or 'any'} | `{kind.id}` | {severity.name.lower()} | {why} |")
    return _BEGIN + "\n" + "\n".join(rows) + "\n\n" + _END


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(before + table() + rest.partition(_END)[2])
