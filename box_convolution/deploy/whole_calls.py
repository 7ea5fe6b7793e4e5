"""Which children the forward code of a module calls whole, read from its source.

For modules whose code cannot be traced. A child that the code slices, hands on, or whose own children it calls must
not be changed inside: the code could see that.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from torch import nn

_WALKS = {
    "__dict__", "_modules", "apply", "children", "get_submodule", "modules", "named_children", "named_modules",
}  # fmt: skip
_HARMLESS = {"hasattr", "isinstance", "super", "type"}  # functions that may be given the module itself


class _Unknown(Exception):
    """The code may do anything with the children."""


def whole_children(module: nn.Module) -> list[nn.Module]:
    """Return the children of ``module`` that its forward code only calls, as ``self.child(...)``.

    Of a child that the code only iterates over or indexes to call its elements, these elements. None of a module whose
    code is unknown.
    """
    if type(module).forward is nn.Sequential.forward:
        return list(module.children())
    try:
        functions = list(_functions(module))
    except _Unknown:
        return []
    uses: dict[nn.Module, set[str]] = {}
    for name, child in module.named_modules(remove_duplicate=False):
        if name and "." not in name:
            uses.setdefault(child, set()).update(use for function in functions for use in function.uses(name))
    whole = [child for child, kinds in uses.items() if kinds == {"whole"}]
    return whole + [one for child, kinds in uses.items() if kinds == {"elements"} for one in child.children()]


def _functions(module: nn.Module) -> Iterator["_Function"]:
    """The forward code, and all methods and properties that it names. Raises _Unknown."""
    if "forward" in vars(module):
        raise _Unknown
    waiting, seen = ["forward"], {"forward"}
    while waiting:
        name = waiting.pop()
        for owner in type(module).__mro__:
            if owner is nn.Module:
                break
            if name not in vars(owner):
                continue
            if owner.__module__.partition(".")[0] == "torch":
                raise _Unknown
            function = _Function.read(vars(owner)[name])
            if function is not None:
                yield function
                new = function.attributes() - seen
                waiting += new
                seen |= new


class _Function:
    """The syntax tree of a method, and of each node its parent."""

    def __init__(self, tree: ast.FunctionDef) -> None:
        self.tree = tree
        self.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        named = tree.args.posonlyargs + tree.args.args
        self.self = named[0].arg if named else ""

    @classmethod
    def read(cls, member: Any) -> "_Function | None":
        """The source of a member of a class; None for data, and for functions without ``self``. Raises _Unknown."""
        if isinstance(member, (staticmethod, classmethod)) or not (callable(member) or isinstance(member, property)):
            return None
        try:
            function: Any = member.fget if isinstance(member, property) else member
            source = inspect.getsource(inspect.unwrap(function))
            tree = ast.parse(textwrap.dedent(source)).body[0]
        except (OSError, TypeError, SyntaxError, IndexError):
            raise _Unknown from None
        if not isinstance(tree, ast.FunctionDef):
            raise _Unknown
        return cls(tree)

    def attributes(self) -> set[str]:
        """Names of the attributes of ``self`` that it reads. Raises _Unknown if it reads all, or hands ``self`` on."""
        names = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and node.id == self.self:
                parent = self.parents.get(node)
                if isinstance(parent, ast.Attribute):
                    names.add(parent.attr)
                elif not (isinstance(parent, ast.Call) and _name(parent.func) in _HARMLESS):
                    raise _Unknown
        if _WALKS & names:
            raise _Unknown
        return names

    def uses(self, child: str) -> Iterator[str]:
        """How it uses ``self.child``, each time: "whole", "elements" or "otherwise"."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and node.attr == child and _name(node.value) == self.self:
                use = self._use(node)
                if use:
                    yield use

    def _use(self, node: ast.AST) -> str:
        parent = self.parents[node]
        if isinstance(parent, ast.Call) and parent.func is node:
            return "whole"
        asked = isinstance(parent, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in parent.ops)
        tested = isinstance(parent, (ast.If, ast.IfExp, ast.While)) and parent.test is node
        if asked or tested or (isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not)):
            return ""
        if isinstance(parent, ast.Call) and _name(parent.func) == "len":
            return ""
        if isinstance(parent, ast.Subscript) and not isinstance(parent.slice, ast.Slice):
            return "elements" if self._is_called(parent) else "otherwise"
        variable = self._variable(node)
        return "elements" if variable and self._only_called(variable) else "otherwise"

    def _variable(self, node: ast.AST) -> str | None:
        """The variable of the loop over the elements of ``node``; None if that is no loop."""
        place: list[int] = []  # of the variable in the target of the loop, innermost last
        while not isinstance(loop := self.parents[node], (ast.For, ast.comprehension)):
            if isinstance(loop, ast.Attribute) and loop.attr in ("values", "items"):
                if loop.attr == "items":
                    place.insert(0, 1)
                node = self.parents[loop]
            elif isinstance(loop, ast.Call) and node in loop.args and (called := _name(loop.func)):
                if called not in ("enumerate", "zip", "reversed", "list", "tuple"):
                    return None
                if called in ("enumerate", "zip"):
                    place.insert(0, 1 if called == "enumerate" else loop.args.index(node))
                node = loop
            else:
                return None
        target: ast.expr = loop.target
        for index in place:
            if not isinstance(target, ast.Tuple) or index >= len(target.elts):
                return None
            target = target.elts[index]
        return _name(target) if loop.iter is node else None

    def _only_called(self, variable: str) -> bool:
        reads = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Name) and node.id == variable and isinstance(node.ctx, ast.Load)
        ]
        return all(self._is_called(node) for node in reads)

    def _is_called(self, node: ast.AST) -> bool:
        parent = self.parents[node]
        return isinstance(parent, ast.Call) and parent.func is node


def _name(node: ast.AST) -> str | None:
    return node.id if isinstance(node, ast.Name) else None
