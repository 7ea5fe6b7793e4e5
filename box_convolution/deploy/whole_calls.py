"""What the source of forward code tells: whether a trace shows all that it does, and which children it calls whole.

A child that the code slices, hands on, or whose own children it calls must not be changed inside: the code could see
that. What is not known to be harmless counts as harmful.
"""

import ast
import contextlib
import functools
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from ..torch_internals import has_hooks

_TRUSTED = ("torch", "box_convolution")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_WALKS = {
    *("apply", "buffers", "children", "get_buffer", "get_parameter", "get_submodule", "modules", "named_buffers"),
    *("named_children", "named_modules", "named_parameters", "parameters", "state_dict"),
}
"""Attributes of a module that lead to all of its layers or numbers."""
_PRIVATE = {"_buffers", "_modules", "_parameters"}
_HARMLESS = {"hasattr", "isinstance", "super", "type"}  # functions that may be given the module itself
_LOOKS = {
    *("callable", "eval", "exec", "globals", "hasattr", "isinstance", "issubclass", "locals", "setattr", "type"),
    "vars",
}
_MODES = {"is_autocast_enabled", "is_grad_enabled", "is_inference_mode_enabled", "is_tensor", "is_tracing", "suppress"}
_KEEPS = {"add", "append", "extend", "insert", "register_buffer", "setdefault", "update"}
_DATA = (int, float, str, bytes, type(None), Tensor, type, types.BuiltinFunctionType)


class _Unknown(Exception):
    """The code may do anything with the children."""


def shows_in_a_trace(module: nn.Module) -> bool:
    """Whether a trace by `torch.fx` shows all that calling ``module`` may do, as far as its source can be read.

    Not if code asks for types or modes, catches errors, or keeps what it computes: a trace would see only one of
    several ways, or none of the readers of a tensor.
    """
    kind: Any = type(module)
    return not has_hooks(module) and _is_plain_code(kind)


@functools.cache
def _is_plain_code(kind: type) -> bool:
    def functions(name: str) -> Iterator[_Function]:
        for owner in _owners(kind):
            if owner.__module__.partition(".")[0] not in _TRUSTED:
                with contextlib.suppress(_Unknown):
                    if function := _Function.read(vars(owner).get(name)):
                        yield function

    return not any(function.is_doubtful() for function in _reached(functions))


def _reached(functions: Callable[[str], Iterator["_Function"]]) -> Iterator["_Function"]:
    """Yield the ``functions`` of the name "forward", and of all attributes that those yielded before name."""
    waiting, seen = ["forward"], {"forward"}
    while waiting:
        for function in functions(waiting.pop()):
            yield function
            new = function.attributes() - seen
            waiting += new
            seen |= new


def whole_children(module: nn.Module) -> list[nn.Module]:
    """Return the children of ``module`` that its forward code only calls, as ``self.child(...)``.

    Of a child that the code only iterates over or indexes to call its elements, these elements. None of a module whose
    code is unknown.
    """
    if has_hooks(module):
        return []
    if type(module).forward is nn.Sequential.forward:
        return list(module.children())
    try:
        functions = list(_functions(module))
    except _Unknown:
        return []
    uses: dict[nn.Module, set[int]] = {}
    for name, child in module.named_modules(remove_duplicate=False):
        if name and "." not in name:
            uses.setdefault(child, set()).update(use for function in functions for use in function.uses(name))
    return [one for child, depths in uses.items() if len(depths) == 1 for one in _elements(child, *depths)]


def _elements(module: nn.Module, depth: int) -> Iterator[nn.Module]:
    """The modules ``depth`` containers below ``module``; none if there are other modules between, or for depth -1."""
    if depth == 0:
        yield module
    elif depth > 0 and type(module) in _CONTAINERS:
        for child in module.children():
            yield from _elements(child, depth - 1)


def _owners(kind: type) -> list[type]:
    return [owner for owner in kind.__mro__ if owner not in (nn.Module, object)]


def _functions(module: nn.Module) -> Iterator["_Function"]:
    """The forward code, and all methods and properties that it names. Raises _Unknown."""
    owners = _owners(type(module))
    if any(name in vars(owner) for owner in owners for name in ("__getattr__", "__getattribute__")):
        raise _Unknown

    def functions(name: str) -> Iterator[_Function]:
        if name in vars(module) and not _is_data(vars(module)[name]):
            raise _Unknown
        for owner in owners:
            if name not in vars(owner):
                continue
            if owner.__module__.partition(".")[0] == "torch":
                raise _Unknown
            if function := _Function.read(vars(owner)[name]):
                function.check()
                yield function

    return _reached(functions)


def _is_data(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return value.__closure__ is None
    return isinstance(value, _DATA) or (isinstance(value, (list, tuple, set, frozenset)) and all(map(_is_data, value)))


class _Function:
    """The syntax tree of a method, and of each node its parent."""

    def __init__(self, tree: ast.FunctionDef) -> None:
        self.tree = tree
        self.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        named = tree.args.posonlyargs + tree.args.args
        self.self = named[0].arg if named else ""
        self.parameters = {each.arg for each in (*named[1:], *tree.args.kwonlyargs)}
        last = named[len(named) - len(tree.args.defaults) :]
        defaults = zip((*last, *tree.args.kwonlyargs), (*tree.args.defaults, *tree.args.kw_defaults), strict=True)
        self.none_by_default = {each.arg for each, default in defaults if _is_none(default)}

    @classmethod
    def read(cls, member: Any) -> "_Function | None":
        """The source of a member of a class; None for data, and for functions without ``self``. Raises _Unknown."""
        if isinstance(member, (staticmethod, classmethod)):
            return None
        function: Any = member.fget if isinstance(member, property) else member
        if not isinstance(function, types.FunctionType):
            if hasattr(member, "__get__") or not _is_data(member):
                raise _Unknown
            return None
        while hasattr(function, "__wrapped__"):
            if not function.__globals__["__name__"].startswith("torch"):  # the wrapper's code may do anything
                raise _Unknown
            function = function.__wrapped__
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        except (OSError, TypeError, SyntaxError, IndexError):
            raise _Unknown from None
        if not isinstance(tree, ast.FunctionDef):
            raise _Unknown
        return cls(tree)

    def attributes(self) -> set[str]:
        """Names of the attributes of ``self`` that it reads, also through ``super()``."""
        found = (node for node in ast.walk(self.tree) if isinstance(node, ast.Attribute))
        return {node.attr for node in found if _name(node.value) == self.self or _calls(node.value, "super")}

    def check(self) -> None:
        """Raise _Unknown if it reads all attributes of ``self``, or hands ``self`` on."""
        if not self.self:
            raise _Unknown
        for node in ast.walk(self.tree):
            parent = self.parents.get(node)
            if isinstance(node, ast.Name) and node.id == self.self:
                given = isinstance(parent, ast.Call) and _name(parent.func) in _HARMLESS
                if not (isinstance(parent, ast.Attribute) or given):
                    raise _Unknown
            elif isinstance(node, ast.Call) and _name(node.func) in _LOOKS - _HARMLESS:
                raise _Unknown
            elif isinstance(node, ast.Attribute) and node.attr != "__init__":
                walks = _name(node.value) == self.self and node.attr in _WALKS and not self._is_next_of_parameters(node)
                if walks or node.attr in _PRIVATE or node.attr.startswith("__"):
                    raise _Unknown

    def _is_next_of_parameters(self, node: ast.Attribute) -> bool:
        """Whether this is ``next(self.parameters())``, with which code asks for a device."""
        after = self.parents.get(self.parents[node])
        return node.attr == "parameters" and isinstance(after, ast.Call) and _name(after.func) == "next"

    def is_doubtful(self) -> bool:
        """Whether a trace may miss something that it does."""
        arguments = self.tree.args
        if not self.self or (self.tree.name == "forward" and (arguments.vararg or arguments.kwarg)):
            return True
        return any(map(self._is_doubtful, ast.walk(self.tree)))

    def _is_doubtful(self, node: ast.AST) -> bool:
        if isinstance(node, (ast.Try, ast.Match)):
            return True
        if isinstance(node, ast.Attribute):
            walks = node.attr in _WALKS - {"children", "modules", "named_children", "get_submodule", "named_modules"}
            inside = node.attr in _PRIVATE or (walks and not self._is_next_of_parameters(node))
            return isinstance(node.ctx, (ast.Store, ast.Del)) or inside or self._reads_number_of_child(node)
        if isinstance(node, ast.Subscript):
            return isinstance(node.ctx, (ast.Store, ast.Del)) and isinstance(node.value, ast.Attribute)
        if isinstance(node, ast.Compare) and _name(node.left) in self.parameters:
            none = all(map(_is_none, node.comparators)) and _name(node.left) in self.none_by_default
            same = any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)
            among = any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops)
            return among or (same and not none)
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Attribute):
            name, holder = node.func.attr, node.func.value
            of_self = isinstance(holder, ast.Attribute) and _name(holder.value) == self.self
            asks = name == "get" and any(_name(one) in self.parameters for one in (holder, *node.args))
            in_place = name.endswith("_") and not name.endswith("__")
            return name in _MODES or asks or (of_self and (name in _KEEPS or in_place))
        return _name(node.func) in _LOOKS | _MODES

    def _reads_number_of_child(self, node: ast.Attribute) -> bool:
        """Whether this is ``self.child.number``. Weights are left to the trace."""
        of_child = isinstance(node.value, ast.Attribute) and _name(node.value.value) == self.self
        parent = self.parents[node]
        leads_on = isinstance(parent, (ast.Attribute, ast.Subscript, ast.For, ast.comprehension)) or self._is_called(
            node
        )
        return of_child and not leads_on and node.attr != "weight"

    def uses(self, child: str) -> Iterator[int]:
        """How it uses ``self.child``, each time: the depth of what it calls, 0 for the child; -1 for other uses."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and node.attr == child and _name(node.value) == self.self:
                depth = self._depth(node)
                if depth is not None:
                    yield depth

    def _depth(self, node: ast.AST) -> int | None:
        """See `uses`; None for a use that does not touch the child."""
        parent, depth = self.parents[node], 0
        asked = isinstance(parent, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in parent.ops)
        tested = isinstance(parent, (ast.If, ast.IfExp, ast.While)) and parent.test is node
        negated = isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not)
        if asked or tested or negated or (isinstance(parent, ast.Call) and _name(parent.func) == "len"):
            return None
        while isinstance(parent := self.parents[node], ast.Subscript) and not isinstance(parent.slice, ast.Slice):
            if parent.value is not node:
                return -1
            node, depth = parent, depth + 1
        if self._is_called(node):
            return depth
        variable = self._variable(node)
        return depth + 1 if variable and self._only_called(variable) else -1

    def _variable(self, node: ast.AST) -> str | None:
        """The variable of the loop over the elements of ``node``, or over some of them; None if that is no loop."""
        place: list[int] = []  # of the variable in the target of the loop, innermost last
        while not isinstance(loop := self.parents[node], (ast.For, ast.comprehension)):
            if isinstance(loop, ast.Attribute) and loop.attr in ("values", "items"):
                if loop.attr == "items":
                    place.insert(0, 1)
                node = self.parents[loop]
            elif isinstance(loop, ast.Subscript) and isinstance(loop.slice, ast.Slice) and loop.value is node:
                node = loop
            elif isinstance(loop, ast.Call) and node in loop.args and (called := _name(loop.func)):
                if called not in ("enumerate", "zip", "reversed", "list", "tuple"):
                    return None
                if called in ("enumerate", "zip"):
                    place.insert(0, 1 if called == "enumerate" else [*loop.args].index(node))
                node = loop
            else:
                return None
        target: ast.expr = loop.target
        for index in place:
            starred = isinstance(target, ast.Tuple) and any(isinstance(one, ast.Starred) for one in target.elts)
            if not isinstance(target, ast.Tuple) or starred or index >= len(target.elts):
                return None
            target = target.elts[index]
        return _name(target) if loop.iter is node else None

    def _only_called(self, variable: str) -> bool:
        reads = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Name) and node.id == variable and isinstance(node.ctx, ast.Load)
        ]
        return all(map(self._is_called, reads))

    def _is_called(self, node: ast.AST) -> bool:
        parent = self.parents[node]
        return isinstance(parent, ast.Call) and parent.func is node


def _name(node: ast.AST) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def _is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and _name(node.func) == name
