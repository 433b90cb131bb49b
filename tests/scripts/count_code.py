"""Counts code lines of each package, without blank lines, comments and docstrings.

python tests/scripts/count_code.py [FOLDER]      (a checkout; by default this one)
"""

import ast
import collections
import sys
import tokenize
from pathlib import Path

PRODUCT = ("configs", "convert", "realsr_jax")
SILENT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def code_lines(path: Path) -> int:
    """Returns how many lines of a Python file hold code."""
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in SILENT]
    lines = {number for token in tokens for number in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(path.read_bytes())):
        for statement in getattr(node, "body", None) if isinstance(getattr(node, "body", None), list) else ():
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if is_text and isinstance(statement.value.value, str):
                lines -= set(range(statement.lineno, statement.end_lineno + 1))
    return len(lines)


def main(root: Path) -> None:
    """Prints a row for each package, and the sum."""
    counts: collections.Counter[str] = collections.Counter()
    for folder in PRODUCT:
        for path in (root / folder).rglob("*.py"):
            counts["/".join(path.relative_to(root).parts[:-1][:2])] += code_lines(path)
    for package, count in [*sorted(counts.items()), ("all", counts.total())]:
        print(f"{count:6} {package}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
