"""The Jinja sandbox in which templates of applications are rendered: its strings know who wrote them.

The code that is generated for a template differs from Jinja's in three places: text and string constants of the
template are tagged as code of its author, joined strings keep their pieces, and nothing is evaluated at compile time.
"""

import json
import re
from collections.abc import Callable, Iterable, MutableMapping
from types import CodeType
from typing import Any

from jinja2 import Environment, Template, TemplateSyntaxError, Undefined, UndefinedError, nodes, pass_eval_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.nodes import EvalContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ucloud_slurm.bridge.template.provenance import Origin, TaggedStr, as_code, as_data, joined, pieces, tagged, trimmed
from ucloud_slurm.errors import Refused, one_line

# Their results are HTML or random, or expose Python objects.
_NO_FILTERS = ("escape", "e", "forceescape", "striptags", "urlize", "xmlattr", "random", "attr", "pprint")
_NO_GLOBALS = ("lipsum",)
_NOT_OFFERED: dict[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.EvalContextModifier: "autoescape",
}
_MAX_EXPONENT = 64
_MAX_PATTERN_CHARACTERS = 200
_MAX_REPEATED_CHARACTERS = 1_000_000
# A second syntax for calls, of templates that were written for other providers: {- name -}, {- name("argument") -}.
_CALL = re.compile(r'(?<!\{)\{- ([A-Za-z]\w*)(\((?:[^()"{}]|"[^"{}]*")*\))? -\}(?!\})')


class Absent(Undefined):
    """A parameter without a value: not defined, equal to None, printed as an empty text."""

    def __eq__(self, other: object) -> bool:
        """Whether the other has no value either."""
        return other is None or isinstance(other, Undefined)

    def __ne__(self, other: object) -> bool:
        """Whether the other has a value."""
        return not self == other

    __hash__ = Undefined.__hash__


class _Generator(CodeGenerator):
    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:  # noqa: N802  Jinja's names
        value = node.as_const(frame.eval_ctx)
        if isinstance(value, str):
            self.write(f"environment.as_code({value!r})")
        else:
            super().visit_Const(node, frame)

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"environment.as_code({super()._output_const_repr(group)})"


class _Template(Template):
    @classmethod
    def from_code(
        cls,
        environment: Environment,
        code: CodeType,
        globals: MutableMapping[str, Any],  # noqa: A002  Jinja's name
        uptodate: Callable[[], bool] | None = None,  # noqa: ARG003
    ) -> "Template":
        """Makes a template of compiled code, in which :func:`joined` joins strings."""
        namespace: dict[str, Any] = {"environment": environment, "__file__": code.co_filename}
        exec(code, namespace)  # noqa: S102  as Jinja does
        namespace["str_join"] = namespace["markup_join"] = joined
        return cls._from_namespace(environment, namespace, globals)


class Sandbox(ImmutableSandboxedEnvironment):
    """Renders templates."""

    code_generator_class = _Generator
    template_class = _Template
    concat = staticmethod(joined)
    as_code = staticmethod(as_code)
    intercepted_binops = frozenset(("**", "*"))

    def __init__(self) -> None:
        """Adds the filters and tests of UCloud's templates."""
        super().__init__(optimized=False, autoescape=False, finalize=_printed, cache_size=0)
        for name in _NO_FILTERS:
            del self.filters[name]
        for name in _NO_GLOBALS:
            del self.globals[name]
        self.filters |= {
            "flag": _flag,
            "option": _option,
            "join": _join,
            "trim": trimmed,
            "string": tagged,
            "safe": tagged,
            "tojson": _json,
        }
        self.tests |= {"none": lambda value: value is None or isinstance(value, Absent), "match": _match, "search": _search}

    def rendered(self, source: str, values: dict[str, Any]) -> TaggedStr:
        """Renders a template.

        :raises Refused: naming what is wrong with it
        """
        try:
            source = _CALL.sub(lambda call: f"{{{{ {call[1]}{call[2] or '()'} }}}}", source)
            tree = self.parse(source)
            for kind, name in _NOT_OFFERED.items():
                for node in tree.find_all(kind):
                    raise Refused(f"line {node.lineno} of the template: {name} is not offered.")
            text = self.from_string(tree).render(values)
        except Refused:
            raise
        except (TemplateSyntaxError, UndefinedError, SecurityError) as error:
            line = getattr(error, "lineno", None)
            raise Refused(f"{f'line {line} of the template: ' if line else ''}{one_line(str(error), 200)}") from None
        except RecursionError:
            raise Refused("the template nests or calls itself too deeply") from None
        except MemoryError:
            raise Refused("the template needs too much memory") from None
        except Exception as error:  # noqa: BLE001  an expression can raise anything
            raise Refused(f"the template fails: {one_line(str(error), 200)}") from None
        return tagged(text)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may use an attribute."""
        if super().is_safe_attribute(obj, attr, value):
            return True
        raise SecurityError(f"the attribute {attr[:40]!r} may not be used")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Multiplies and exponentiates, within the limits of a script."""
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" and not (numbers and abs(right) <= _MAX_EXPONENT and abs(left) < 2**32):
            raise Refused("the template raises to a power that is too large.")
        if operator == "*" and not numbers:
            length, times = (len(left), right) if isinstance(right, int) else (len(right), left)
            if length * times > _MAX_REPEATED_CHARACTERS:
                raise Refused("the template repeats a text too often.")
        return super().call_binop(context, operator, left, right)


def plain(text: TaggedStr) -> str:
    """A text that no shell reads.

    :raises Refused: a part of it is known on the node only
    """
    for piece in pieces(text):
        if piece.origin is Origin.VARIABLE:
            raise Refused(f"{piece.text} is known on the node only; it can be used in the invocation.")
    return "".join(piece.text for piece in pieces(text))


@pass_eval_context  # without a context Jinja would print constants at compile time, as code
def _printed(_: EvalContext, value: Any) -> TaggedStr:
    if isinstance(value, Undefined):
        if isinstance(value, Absent) or value._undefined_name is None:  # the latter: a condition without else
            return as_code("")
        value._fail_with_undefined_error()
    return tagged(value)


def _flag(value: Any, on: str, off: str = "") -> str:
    return on if value else off or as_code("")


def _option(value: Any, name: str, blank: bool | None = None) -> TaggedStr:
    if value is None or isinstance(value, Absent):
        return as_code("")
    if blank is None:
        blank = not str(name).endswith("=")
    return joined((name, as_code(" "), as_data(value)) if blank else (name, as_data(value)))


@pass_eval_context
def _join(context: EvalContext, value: Any, d: str | None = None, attribute: str | int | None = None) -> TaggedStr:
    if attribute is not None:
        value = (context.environment.getitem(one, attribute) for one in value)
    parts: list[Any] = []
    for one in value:
        parts += [one] if not parts or d is None else [d, one]
    return joined(parts)


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, sort_keys=True)


def _pattern(pattern: str, ignorecase: bool, multiline: bool) -> re.Pattern[str]:
    if len(pattern) > _MAX_PATTERN_CHARACTERS:
        raise Refused("a pattern of the template is too long.")
    return re.compile(pattern, (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0))


def _match(value: str, pattern: str, *, ignorecase: bool = False, multiline: bool = False) -> bool:
    return _pattern(pattern, ignorecase, multiline).fullmatch(str(value)) is not None


def _search(value: str, pattern: str, *, ignorecase: bool = False, multiline: bool = False) -> bool:
    return _pattern(pattern, ignorecase, multiline).search(str(value)) is not None
