"""Rendering the templates of an application, and the functions that they may call."""

from collections.abc import Callable
from itertools import chain
from typing import Any

from ucloud_slurm.bridge.script.bash import is_plain
from ucloud_slurm.bridge.template.messages import Rendered, Request, WebPage
from ucloud_slurm.bridge.template.provenance import ShellVariable, TaggedStr, as_code, pieces, tagged, trimmed
from ucloud_slurm.bridge.template.quoting import quoted_script
from ucloud_slurm.bridge.template.sandbox import Absent, Sandbox, plain
from ucloud_slurm.errors import Refused

MAX_CHARACTERS = 256 * 1024  # of a template, and of the script that is rendered from it
MAX_ENTRIES = 1000  # options and software to load
MAX_PAGES = 20  # further web pages
MAX_TITLE = 60  # characters of the name of one
LEAST_PORT, MOST_PORT = 1024, 65535  # lower ports are services of the node

_NOT_OFFERED = {
    "script": "script() runs programs of the provider",
    "setInterfaceName": "setInterfaceName() names a page of the job",
    "unloadApplication": "unloadApplication() unloads what the whole job uses",
}


class _Helper:
    """A function that templates can call."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self._function = name, function

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self._function(*arguments)
        except TypeError:
            raise Refused(f"{self._name}() is called with other arguments than it takes.") from None

    def __repr__(self) -> str:
        return self._name


def render(request: Request) -> Rendered:
    """Renders the templates of an application. The same request gives the same result, byte for byte.

    :raises Refused: naming what is wrong with a template
    """
    for text in (request.template, *request.environment.values(), *request.sbatch.values()):
        if len(text) > MAX_CHARACTERS:
            raise Refused(f"a template has more than {MAX_CHARACTERS} characters.")
    sandbox = Sandbox()
    options: dict[str, str] = {}
    loaded: list[tuple[str, str]] = []
    policies: dict[str, str] = {}
    pages: dict[tuple[int, str], WebPage] = {}
    helpers = _helpers(request, options, loaded, policies, pages)
    values = {name: Absent(name=name) for name in request.absent} | dict(request.values)
    ucloud = dict(request.ucloud) | {name: ShellVariable(variable) for name, variable in request.shell_variables.items()}
    context = helpers | values | {"ucloud": ucloud}
    first = {name: plain(trimmed(sandbox.rendered(text, context))) for name, text in request.sbatch.items()}
    environment = {name: plain(sandbox.rendered(text, context)) for name, text in request.environment.items()}
    options |= {name: value for name, value in first.items() if name not in options}
    script = _script(sandbox.rendered(request.template, context))
    others = chain(environment.values(), *options.items(), *loaded, *policies.items())
    if sum(map(len, others)) > MAX_CHARACTERS or len(options) + len(loaded) + len(policies) > MAX_ENTRIES:
        raise Refused(f"its environment, options and modules would be more than {MAX_CHARACTERS} characters, or too many.")
    return Rendered(script, environment, options, tuple(dict.fromkeys(loaded)), policies, tuple(pages.values()))


def _script(text: TaggedStr) -> str:
    if len(text) > MAX_CHARACTERS:
        raise Refused(f"the script would have more than {MAX_CHARACTERS} characters.")
    script = quoted_script(pieces(text))
    for character in script:
        if character not in "\t\n" and not is_plain(character):
            raise Refused(f"the script contains a character that is not allowed (U+{ord(character):04X}).")
    return script.strip("\n")


def _announcer(pages: dict[tuple[int, str], WebPage]) -> Callable[..., TaggedStr]:
    """The function by which a template announces further web pages."""

    def announce(rank: int, kind: str, name: str, port: int) -> TaggedStr:
        title = str.__str__(name)
        if kind != "WEB":
            raise Refused("dynamicInterface() announces pages of the type WEB; others are not offered.")
        if not (_is_whole(rank) and _is_whole(port)) or rank < 0 or not LEAST_PORT <= port <= MOST_PORT:
            raise Refused(f"dynamicInterface() takes the number of a node, and a port of {LEAST_PORT} to {MOST_PORT}.")
        if not 0 < len(title) <= MAX_TITLE or not title.isprintable():
            raise Refused(f"dynamicInterface() takes a name of 1 to {MAX_TITLE} printable characters.")
        pages[rank, title] = WebPage(int(rank), title, int(port))
        if len(pages) > MAX_PAGES:
            raise Refused(f"dynamicInterface() announces more than {MAX_PAGES} pages.")
        return as_code("")

    return announce


def _is_whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _helpers(
    request: Request,
    options: dict[str, str],
    loaded: list[tuple[str, str]],
    policies: dict[str, str],
    pages: dict[tuple[int, str], WebPage],
) -> dict[str, Any]:
    nothing = as_code("")

    def sbatch(name: str, value: Any = "") -> TaggedStr:
        whole = isinstance(value, float) and value.is_integer()
        options[str.__str__(name)] = plain(trimmed(tagged(int(value) if whole else value)))
        return nothing

    def load(name: str, version: str) -> TaggedStr:
        loaded.append((str.__str__(name), str.__str__(version)))
        return nothing

    def resolve(first: str, second: str | None = None) -> TaggedStr:
        name, policy = ("", first) if second is None else (first, second)
        policies[str.__str__(name)] = str.__str__(policy)
        return nothing

    def refusing(what: str) -> Callable[..., Any]:
        def refuse(*_: Any) -> Any:
            raise Refused(f"{what}, which this provider does not offer.")

        return refuse

    functions: dict[str, Callable[..., Any]] = {
        "srun": lambda: as_code(request.srun),
        "sbatch": sbatch,
        "ternary": lambda condition, yes, no: yes if condition else no,
        "loadApplication": load,
        "versionResolver": resolve,
        "dynamicInterface": _announcer(pages),
        # Modules are loaded before the script begins, and end with the job.
        **dict.fromkeys(("systemLoad", "systemUnload", "applicationLoad", "applicationUnload"), lambda: nothing),
        **{name: refusing(what) for name, what in _NOT_OFFERED.items()},
    }
    return {name: _Helper(name, function) for name, function in functions.items()}
