"""What a program of any kind can be described by: its length, and how much it branches."""

import ast
import io
import math
import tokenize

BRANCHES = (ast.If, ast.IfExp, ast.For, ast.While, ast.Try, ast.BoolOp, ast.comprehension, ast.Match)


def descriptors(source: str, initial: str) -> dict[str, float]:
    """Length against the initial program (a power of two), and branches and loops per line of code."""
    mine, first = lines_of_code(source), lines_of_code(initial)
    try:
        branches = sum(isinstance(node, BRANCHES) for node in ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError):
        branches = 0
    return {"growth": math.log2(max(1, mine) / max(1, first)), "branching": branches / max(1, mine)}


def lines_of_code(source: str) -> int:
    """Lines with something to execute on them: comments, blank lines and docstrings do not count."""
    lines: set[int] = set()
    usual = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    fresh = True  # at the beginning of a statement
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in usual or token.type == tokenize.ENDMARKER:
                fresh = fresh or token.type == tokenize.NEWLINE
            elif not (fresh and token.type == tokenize.STRING):
                lines.update(range(token.start[0], token.end[0] + 1))
                fresh = False
    except (tokenize.TokenError, SyntaxError):
        return len(source.splitlines())
    return len(lines)
