"""T1: how many lines of code is the package? Blank lines, comments and docstrings are not counted."""

import ast
import io
import tokenize
from collections.abc import Sequence
from pathlib import Path

from measuring import PACKAGE_DIR, Inputs, Row, limit

_NOT_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


def count_code_lines(path: Path) -> int:
    """Count the lines of a file that hold code; a string that stands alone, as a docstring does, is none."""
    source = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {line for token in tokens if token.type not in _NOT_CODE for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


def run(inputs: Inputs) -> Sequence[Row]:
    """Measure T1."""
    counts = {str(path.relative_to(PACKAGE_DIR)): count_code_lines(path) for path in sorted(PACKAGE_DIR.rglob("*.py"))}
    note = ", ".join(f"{name} {count}" for name, count in counts.items())
    return [limit("T1", "lines of code in nlpbook_helpers", [sum(counts.values())], 1_500, note=note)]
