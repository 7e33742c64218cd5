"""From an application's invocation and the user's values to the arguments of a command.

The algorithm is UCloud's (contract: InvocationParameter, "var algorithm"), with the defaults of parameters filled in,
which UCloud leaves to the provider. Values are data: nothing here is quoted or joined for a shell.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ucloud_slurm.bridge.script.bash import refuse_control_characters
from ucloud_slurm.bridge.script.inputs import OTHER_KINDS
from ucloud_slurm.bridge.template.messages import Value
from ucloud_slurm.errors import Refused
from ucloud_slurm.ucloud.applications import ApplicationParameter, Invocation, InvocationParameter
from ucloud_slurm.ucloud.jobs import ParameterValue

# Kind of a declared parameter -> kind of the value that a user gives (contract: AppParameterValue).
_VALUE_KINDS = {
    "input_file": "file", "input_directory": "file", "text": "text",
    "textarea": "text", "text_area": "text", "enumeration": "text", "integer": "integer",
    "floating_point": "floating_point", "boolean": "boolean", "peer": "peer",
    "license_server": "license_server", "network_ip": "network", "ingress": "ingress",
    "block_storage": "block_storage", "private_network": "private_network", "workflow": "workflow",
    "modules": "modules",
}  # fmt: skip
_SEVERAL_LINES = frozenset(("textarea", "text_area"))  # kinds of parameters whose value may have line breaks
# Kinds of parameters that are no argument: scripts, modules to load, and a readme, which has no value.
_NOT_ARGUMENTS = frozenset(("workflow", "modules", "readme"))


def parameter_texts(
    invocation: Invocation,
    given: Mapping[str, ParameterValue],
    paths: Mapping[str, str] | None = None,
    *,
    own_words: bool = False,
) -> dict[str, str]:
    """The text of every declared parameter that has a value, given or by default. See :func:`parameter_values`.

    :param own_words: whether a boolean parameter names its words for true and false; they are "true" and "false" else
    """
    found = parameter_values(invocation.parameters, given, paths)
    texts = {name: value if isinstance(value, str) else _plain(value) for name, value in found.items()}
    if own_words:
        for parameter in invocation.parameters:
            truth = found.get(parameter.name)
            if isinstance(truth, bool):
                texts[parameter.name] = parameter.true_value if truth else parameter.false_value
    return texts


def parameter_values(
    parameters: Iterable[ApplicationParameter], given: Mapping[str, ParameterValue], paths: Mapping[str, str] | None = None
) -> dict[str, Value]:
    """The value of every declared parameter that has one, given or by default, as text, number or boolean.

    Parameters that the application does not declare are ignored: UCloud adds some of its own.

    :param paths: parameter -> local path, for those that are files
    :raises Refused: naming the parameter whose value cannot be used
    """
    found: dict[str, Value] = {}
    for parameter in parameters:
        value = given.get(parameter.name)
        if value is not None:
            _refuse_other_kinds(parameter, value)
        if parameter.type in _NOT_ARGUMENTS:
            continue
        if paths and parameter.name in paths:
            found[parameter.name] = paths[parameter.name]
        elif value is not None:
            found[parameter.name] = _value(parameter, value)
        elif parameter.default_value is not None:
            found[parameter.name] = _default(parameter)
        elif not parameter.optional and parameter.type in _VALUE_KINDS:
            raise Refused(f"The parameter '{parameter.name}' has no value.")
    return found


def refuse_unprintable(invocation: Invocation, texts: Mapping[str, str]) -> None:
    """Refuses texts with control characters; only the values of text areas may have several lines.

    :param texts: see :func:`parameter_texts`
    :raises Refused: naming the parameter, or the element of the application
    """
    places = [("The command of the application", element) for element in invocation.invocation]
    places += [(f"The environment variable '{name}'", element) for name, element in invocation.environment.items()]
    for what, one in places:
        affixes = one.prefix_global, one.suffix_global, one.prefix_variable, one.suffix_variable
        refuse_control_characters(what, (one.word, one.flag, *(affix.strip() for affix in affixes)))
    for parameter in invocation.parameters:
        if parameter.name in texts:
            what = f"The parameter '{parameter.name}'"
            refuse_control_characters(what, [texts[parameter.name]], lines=parameter.type in _SEVERAL_LINES)


def argument_text(invocation: Invocation, element: InvocationParameter, texts: Mapping[str, str]) -> str:
    """The arguments of one element, joined by blanks (contract: environment context)."""
    return " ".join(_element(invocation, element, texts))


def arguments(invocation: Invocation, texts: Mapping[str, str]) -> list[str]:
    """The program and its arguments.

    :param texts: see :func:`parameter_texts`
    :raises Refused: an element is of an unknown kind
    """
    return [argument for element in invocation.invocation for argument in _element(invocation, element, texts)]


def environment(invocation: Invocation, texts: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """The application's environment variables.

    A value is a list of pieces: ``("text", ...)`` for literal text, ``("variable", ...)`` for the value of another
    variable. The arguments of one value are joined by blanks (contract: environment context).
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for name, element in invocation.environment.items():
        if element.type == "env":
            found[name] = [("variable", element.variable)]
        else:
            found[name] = [("text", argument_text(invocation, element, texts))]
    return found


def _element(invocation: Invocation, element: InvocationParameter, texts: Mapping[str, str]) -> list[str]:
    match element.type:
        case "word":
            return [element.word]
        case "var":
            return _variables(invocation, element, texts)
        case "bool_flag":
            return [element.flag] if _is_true(invocation, element.variable_name, texts) else []
        case "env":
            return []
        case _:
            raise Refused(f"The application is started in a way ('{element.type}') that this provider does not know yet.")


def _variables(invocation: Invocation, element: InvocationParameter, texts: Mapping[str, str]) -> list[str]:
    declared = {parameter.name for parameter in invocation.parameters}
    names = [name for name in element.variable_names if name in declared and name in texts]
    if not names:
        return []
    prefix, suffix = element.prefix_variable.strip(), element.suffix_variable.strip()
    found = _argument(element.prefix_global.strip())
    for name in names:
        value = texts[name]
        if element.is_prefix_variable_part_of_arg:
            value = prefix + value
        else:
            found += _argument(prefix)
        if element.is_suffix_variable_part_of_arg:
            found.append(value + suffix)
        else:
            found += [value, *_argument(suffix)]
    return found + _argument(element.suffix_global.strip())


def _argument(text: str) -> list[str]:
    return [text] if text else []


def _is_true(invocation: Invocation, name: str, texts: Mapping[str, str]) -> bool:
    declared = next((parameter for parameter in invocation.parameters if parameter.name == name), None)
    return declared is not None and texts.get(name) in ("true", declared.true_value)


def _refuse_other_kinds(parameter: ApplicationParameter, value: ParameterValue) -> None:
    if value.type in OTHER_KINDS:
        raise Refused(f"The parameter '{parameter.name}' needs {OTHER_KINDS[value.type]}, which this provider does not offer.")
    if value.type != _VALUE_KINDS.get(parameter.type, value.type):
        raise Refused(f"The parameter '{parameter.name}' has a value that is not of its type.")


def _value(parameter: ApplicationParameter, value: ParameterValue) -> Value:
    match value.type:
        case "text":
            return _option(parameter, _string(parameter, value.value))
        case "integer" | "floating_point" | "boolean":
            return _number(parameter, value.value)
        case kind:
            raise Refused(f"The parameter '{parameter.name}' has a value of an unknown kind ('{kind}').")


def _default(parameter: ApplicationParameter) -> Value:
    """The value of a default, which is a plain value or an object that holds one (contract: defaultValue)."""
    default = parameter.default_value
    if isinstance(default, dict):
        default = default.get("value")
    if isinstance(default, str):
        return _option(parameter, default)
    return _number(parameter, default)


def _number(parameter: ApplicationParameter, value: Any) -> Value:
    if isinstance(value, bool | int | float):
        return value
    raise Refused(f"The parameter '{parameter.name}' has a value that is not of its type.")


def _plain(value: float) -> str:
    """A number in decimal, or a boolean."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _string(parameter: ApplicationParameter, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise Refused(f"The parameter '{parameter.name}' has a value that is not text.")


def _option(parameter: ApplicationParameter, text: str) -> str:
    if parameter.type in _SEVERAL_LINES:
        return text.replace("\r\n", "\n").replace("\r", "\n")  # browsers send CR LF
    return next((option.value for option in parameter.options if option.name == text), text)
