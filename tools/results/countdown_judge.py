"""Says which answers of the world of countdown are right, for `trainer eval --judge "python3 -u tools/results/countdown_judge.py"`.

A line of JSON in, `true` or `false` out: the prompt is `3,7,12:33=`, the answer (`response`, of samples without intents
`text`) an expression that uses each of the three numbers once and whose exact value is the target.
"""

import ast
import fractions
import json
import operator
import sys

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def value(node: ast.expr, used: list[int]) -> fractions.Fraction:
    """The exact value; every number that stands there is added to `used`.

    Raises ValueError for all that is not a whole number or one of the four operations, ZeroDivisionError as Python does.
    """
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return fractions.Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](value(node.left, used), value(node.right, used))
    raise ValueError("no expression of countdown")


def is_right(prompt: str, answer: str) -> bool:
    numbers, target = prompt.rstrip("=").split(":")
    used: list[int] = []
    try:
        result = value(ast.parse(answer.strip(), mode="eval").body, used)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return False
    return result == int(target) and sorted(used) == sorted(map(int, numbers.split(",")))


for line in sys.stdin:
    row = json.loads(line)
    print(json.dumps(is_right(row["prompt"], row.get("response") or row["text"])), flush=True)
