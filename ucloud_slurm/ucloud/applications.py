"""Applications and their tools, as UCloud describes them (contract: Application, Tool, InvocationParameter).

UCloud adds kinds of parameters and of invocation elements, and later Cores send the keys of all kinds with every
element. So each is one class with the fields of all kinds; ``type`` says which of them count.
"""

from typing import Any

from pydantic import Field

from ucloud_slurm.ucloud.wire import Bool, Int, Message


class SimpleDuration(Message):
    """A duration. With all fields absent there is none (a Core of 2021 sends that for null)."""

    hours: Int | None = Field(default=None, ge=0)
    minutes: Int | None = Field(default=None, ge=0, le=59)
    seconds: Int | None = Field(default=None, ge=0, le=59)

    @property
    def total(self) -> int | None:
        """Seconds, or None when no field is set."""
        if self.hours is None and self.minutes is None and self.seconds is None:
            return None
        return (self.hours or 0) * 3600 + (self.minutes or 0) * 60 + (self.seconds or 0)


class NameAndVersion(Message):
    """Name and version of an application or a tool."""

    name: str
    version: str


class EnumerationOption(Message):
    """One choice of an enumeration parameter."""

    name: str
    value: str


class ApplicationParameter(Message):
    """A parameter that the application declares."""

    type: str
    name: str = ""
    optional: Bool = False
    default_value: Any = None
    true_value: str = "true"
    false_value: str = "false"
    options: list[EnumerationOption] = []


class InvocationParameter(Message):
    """One element of the command line (word, var, bool_flag, jinja) or of an environment value (env)."""

    type: str
    word: str = ""
    variable_names: list[str] = []
    prefix_global: str = ""
    suffix_global: str = ""
    prefix_variable: str = ""
    suffix_variable: str = ""
    is_prefix_variable_part_of_arg: Bool = False
    is_suffix_variable_part_of_arg: Bool = False
    variable_name: str = ""
    flag: str = ""
    variable: str = ""
    template: str = ""


class LoadInstructions(Message):
    """The software that a native tool loads, by names that UCloud and its providers agree on."""

    type: str = ""
    applications: list[NameAndVersion] = []


class ToolDescription(Message):
    """How the tool is provided."""

    default_time_allocation: SimpleDuration = SimpleDuration()
    required_modules: list[str] = []
    backend: str = "NATIVE"
    container: str | None = None
    image: str | None = None
    load_instructions: LoadInstructions = LoadInstructions()


class Tool(Message):
    """A tool of UCloud's registry."""

    description: ToolDescription = ToolDescription()


class ToolReference(Message):
    """The tool of an application; ``tool`` is present when UCloud resolved it."""

    name: str = ""
    version: str = ""
    tool: Tool | None = None


class VncDescription(Message):
    """The screen of an application of type VNC."""

    password: str | None = None


class Invocation(Message):
    """How the application is started."""

    tool: ToolReference = ToolReference()
    invocation: list[InvocationParameter] = []
    parameters: list[ApplicationParameter] = []
    application_type: str = "BATCH"
    vnc: VncDescription = VncDescription()
    environment: dict[str, InvocationParameter] = {}
    sbatch: dict[str, InvocationParameter] = {}
    allow_multi_node: Bool = False

    @property
    def template(self) -> str | None:
        """The template of the application's script; None for an application that is a program with arguments."""
        kinds = [element.type for element in self.invocation]
        return self.invocation[0].template if kinds == ["jinja"] else None


class Application(Message):
    """An application. Its name is empty if UCloud does not have it any more."""

    metadata: NameAndVersion
    invocation: Invocation = Invocation()

    @property
    def description(self) -> ToolDescription:
        """The tool's description; its defaults when UCloud did not resolve the tool."""
        tool = self.invocation.tool.tool
        return tool.description if tool else ToolDescription()
