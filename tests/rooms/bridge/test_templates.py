"""Templates of applications: what they may use, what becomes of it, and what a value may never become."""

import shlex
from dataclasses import replace
from typing import Any

import pytest

from ucloud_slurm.bridge.template.messages import Rendered, Request
from ucloud_slurm.bridge.template.render import render
from ucloud_slurm.errors import Refused

UCLOUD = {"jobId": "1", "nodes": 2, "machine": {"name": "m-1", "cpu": 8, "gpu": 0}}
NOTHING = ("gone",)


def made(template: str, **values: Any) -> Rendered:
    return render(Request(template, values=values, absent=NOTHING, ucloud=UCLOUD, shell_variables={"webPort": "UCLOUD_PORT"}))


def script(template: str, **values: Any) -> str:
    return made(template, **values).script


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("run {{ 'x' if gone }} {{ gone }}end", "run  end"),
        ("run {{ '--all --of it' if yes }}", "run --all --of it"),
        ("run {{ yes | flag('--yes', '--no') }} {{ no | flag('-y', '-n') }} {{ no | flag('-x') }}.", "run --yes -n ."),
        ("run {{ 42 | option('--count') }} {{ 42 | option('--count=') }}", "run --count 42 --count=42"),
        ("run {{ text | option('--t', false) }} {{ text | option('--t=', true) }}", "run --t'a b' --t= 'a b'"),
        ("run {{ gone | option('--t') }}.", "run ."),
        ("run {{ gone | default('-a -b') }}", "run -a -b"),
        ("{% if gone == None and gone is none and gone is not defined %}nothing{% endif %}", "nothing"),
        ("{% if not neither %}run{% endif %}", "run"),
        ("run {{ ternary(yes, '--a', text) }} {{ ternary(no, '--a', text) }}", "run --a 'a b'"),
        ("run {{ '--name=' ~ text }} {{ '--name=' + text }}", "run --name='a b' --name='a b'"),
        ('run {{ text ~ empty }} {{ empty }} x{{ empty }} "{{ empty }}"', "run 'a b' '' x \"\""),
        ("{% macro m(v) %}{{ v | option('-i') }}{% endmacro %}run {{ m(text) }}", "run -i 'a b'"),
        ("{% set both %}-x {{ text }}{% endset %}run {{ both }}", "run -x 'a b'"),
        ("run{% for one in [text, 'c d'] %} {{ one }}{% endfor %}", "run 'a b' c d"),
        ("run {{ [text, 'c'] | join(' ') }}", "run 'a b' c"),
        ("{% macro m() %} {{ caller() }} {% endmacro %}run {% call m() %}-y {{ text }}{% endcall %}", "run  -y 'a b' "),
        ("run {{ (' -x ' ~ text) | trim }}", "run -x 'a b'"),
        ("run {{ srun() }} -n {{ ucloud.nodes * ucloud.machine.cpu }}", "run srun -n 16"),
        (
            "run {{ ucloud.webPort }} \"h:{{ ucloud.webPort }}\" 'h:{{ ucloud.webPort }}'",
            'run "$UCLOUD_PORT" "h:${UCLOUD_PORT}" \'h:\'"$UCLOUD_PORT"\'\'',
        ),
        ("run {- systemLoad -}{- applicationLoad -}x", "run x"),
        ("run {{- text -}} {# {- systemLoad -} #}", "run'a b'"),
        ("run {{ text | upper }} {{ text | replace('a', 'c') }} {{ '%s' | format(text) }}", "run 'A B' 'c b' 'a b'"),
        ("{% filter upper %}run; x{% endfilter %}", "'RUN; X'"),
        ("{{ yes }} {{ 1.5 }} {{ {'a': text} | tojson }}", 'True 1.5 \'{"a": "a b"}\''),
        ("{% if text is match('a.*') and text is search('b') and text is not match('b') %}run{% endif %}", "run"),
    ],
)
def test_what_an_author_writes_stays_shell_and_what_comes_from_values_is_quoted(template: str, expected: str) -> None:
    assert script(template, text="a b", yes=True, no=False, empty="") == expected


def test_options_of_sbatch_and_what_is_loaded_are_told_apart_from_the_script() -> None:
    rendered = made(
        "{{ sbatch('ntasks', ucloud.machine.cpu / 2) }}{{ sbatch('exclusive') }}{{ sbatch('hint', text) }}"
        '{- loadApplication("gcc", "12") -}{{ loadApplication(text, "1") }}run',
        text="x",
    )
    assert rendered == Rendered("run", {}, {"ntasks": "4", "exclusive": "", "hint": "x"}, (("gcc", "12"), ("x", "1")))


def test_environment_and_options_are_templates_without_a_shell() -> None:
    request = Request("run", {"A": "x {{ v }}", "B": "{{ gone }}"}, {"hint": " {{ v }} "}, {"v": "it's $x"}, NOTHING)
    rendered = render(request)
    assert rendered.environment == {"A": "x it's $x", "B": ""}
    assert rendered.sbatch == {"hint": "it's $x"}
    with pytest.raises(Refused, match="known on the node only"):
        render(replace(request, environment={"A": "{{ ucloud.port }}"}, shell_variables={"port": "UCLOUD_PORT"}))


# What a template tries, and a word of the sentence that it gets.
ATTACKS = {
    "{{ ''.__class__.__mro__ }}": "__class__",
    "{{ ''['__class__'] }}": "__class__",
    "{{ text | attr('__class__') }}": "attr",
    "{{ [text] | map(attribute='__class__') | list }}": "__class__",
    "{{ [text] | join('', attribute='__class__') }}": "__class__",
    "{{ '{0.__class__}'.format(text) }}": "__class__",
    "{{ '{a.__class__}'.format_map({'a': text}) }}": "__class__",
    "{{ '%(a).1000000000000d' | format(a=1) }}": "",
    "{{ config }}": "config",
    "{{ self.__init__.__globals__ }}": "__init__",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}": "__init__",
    "{{ joiner.__init__ }}": "__init__",
    "{{ lipsum.__globals__ }}": "lipsum",
    "{{ namespace.__init__ }}": "__init__",
    "{{ srun.__call__ }}": "__call__",
    "{{ srun._function }}": "_function",
    "{{ text._pieces }}": "_pieces",
    "{{ ('a' ~ text)._pieces }}": "_pieces",
    "{{ ucloud.webPort._name }}": "_name",
    "{{ environment }}": "environment",
    "{{ ().__class__.__base__.__subclasses__() }}": "__class__",
    "{% include '/etc/passwd' %}": "include",
    "{% import 'x' as x %}": "import",
    "{% from 'x' import y %}": "from",
    "{% extends 'x' %}": "extends",
    "{% block x %}{% endblock %}": "block",
    "{% autoescape true %}{{ text }}{% endautoescape %}": "autoescape",
    "{{ range(10**9) }}": "range",
    "{{ range(10) }}": "range cannot be printed",
    "{{ srun }}": "cannot be printed",
    "{{ ['x'] }}": "cannot be printed",
    "{{ 'a' * 10**10 }}": "too often",
    "{{ 10**10**10 }}": "power",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": "deeply",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}": "deeply",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000: "deeply",
    "{% for i in range(3) %}" * 30 + "{% endfor %}" * 30: "",
    "{{ script('/bin/id') }}": "runs programs",
    "{{ dynamicInterface(0, 'WEB', 'x', 80) }}": "dynamicInterface",
    "{{ versionResolver() }}": "versionResolver",
    "{- siteSnippet -}": "siteSnippet",
    "{{ undeclared }}": "undeclared",
    "{{ ucloud.machine.nodes * 2 }}": "nodes",
    "{{ ucloud.webPort + 1 }}": "UCLOUD_PORT",
    "{{ ucloud.webPort | int }}": "UCLOUD_PORT",
    "{{ ucloud.update({'a': 1}) }}": "update",
    "{{ sbatch() }}": "sbatch",
    "{{ text | safe": "template",
    "{{ text | random }}": "random",
    "x\x00y": "U+0000",
}


@pytest.mark.parametrize("template", ATTACKS)
def test_what_templates_may_not_do_is_refused_by_a_sentence(template: str) -> None:
    with pytest.raises(Refused) as refused:
        made(template, text="x")
    assert ATTACKS[template] in refused.value.why
    assert "\n" not in refused.value.why
    assert len(refused.value.why) < 400


@pytest.mark.parametrize(
    "template",
    [
        "run {{ v | safe }}",
        "run {{ v | string }}",
        "run {{ v | trim }}",
        "run {{ v | default('x') }}",
        "run {{ [v] | join }}",
        "run {{ [v, ''] | join('') }}",
        "run {{ v ~ '' }}",
        "run {{ '' + v }}",
        "run {{ v + '' }}",
        "run {{ '%s' % v }}",
        "run {{ '{}'.format(v) }}",
        "run {{ ('' ~ '{}').format(v) }}",
        "run {{ v | replace('', '') }}",
        "run {{ 'x' | replace('x', v) }}",
        "run {{ [v] | first }}",
        "run {% filter replace('x', v) %}x{% endfilter %}",
        "run {% call ''.join([v]) %}{% endcall %}",
        "run {% call v.strip('') %}{% endcall %}",
        "run {% set a = v %}{{ a }}",
        "run {% set a %}{{ v }}{% endset %}{{ a }}",
        "run {% set a | trim %}{{ v }}{% endset %}{{ a }}",
        "run {{ namespace(a=v).a }}",
        "run {{ {v: 1}.keys() | first }}",
        "{% macro m(a) %}{{ a }}{% endmacro %}run {{ m(v) }}",
        "{% macro m(a=v) %}{{ a }}{% endmacro %}run {{ m() }}",
        "{% macro m() %}{{ caller(v) }}{% endmacro %}run {% call(a) m() %}{{ a }}{% endcall %}",
        "run {% for a in [v] recursive %}{{ loop([]) if false }}{{ a }}{% endfor %}",
        "run {{ cycler(v).next() }}",
        "run {{ (v if true) }}",
        "run {{ v and v }}",
        "run {{ ternary(1, v, v) }}",
        "run {{ true | flag(v) }}",
        "run {% with a = v %}{{ a }}{% endwith %}",
        "run {{ [v] | map('string') | first }}",
        "run {{ v | indent(0) }}",
        "run {{ v[0:] }}",
        "run {{ v.split('never') | first }}",
        "run {{ [v, v] | unique | first }}",
    ],
)
@pytest.mark.parametrize("value", ["$(touch x)", "a;b", "`id` '\"", "--a --b", "run"])
def test_no_way_through_a_template_makes_shell_of_a_value(template: str, value: str) -> None:
    try:
        text = script(template, v=value)
    except Refused as refused:
        assert "Keyword" in refused.why or "keyword" in refused.why  # noqa: PT017  call blocks name a caller
        return
    assert shlex.split(text) == ["run", value]


def test_a_value_that_equals_a_text_of_the_authors_is_still_a_value() -> None:
    assert script("run {{ v }} {{ '; true' if v }}", v="; true") == "run '; true' ; true"


@pytest.mark.parametrize(
    "request_",
    [
        Request("run", {"A": "{{ 'x'.ljust(10**6) }}"}),
        Request("{{ sbatch('hint', 'x'.ljust(10**6, 'y')) }}run"),
        Request("{{ sbatch('x'.ljust(10**6, 'y')) }}run"),
        Request("{{ loadApplication('x'.ljust(10**6), '1') }}run"),
        Request("{% for i in range(2000) %}{{ loadApplication(i ~ '', '1') }}{% endfor %}run"),
        Request("{% for i in range(2000) %}{{ sbatch(i ~ '', '1') }}{% endfor %}run"),
        Request("cat <<" + "E" * 10000 + "\n{{ v }}\n", values={"v": "E" * 10000}),
    ],
    ids=range(7),
)
def test_nothing_that_a_template_gives_is_without_a_limit(request_: Request) -> None:
    with pytest.raises(Refused) as refused:
        render(request_)
    assert len(refused.value.why) < 400


def test_the_same_request_gives_the_same_script() -> None:
    template = "run {{ v }} {% for a in {'x': v, 'y': 1} %}{{ a }}{% endfor %} {{ [v, 'b'] | unique | join(' ') }}"
    assert len({script(template, v="a b") for _ in range(3)}) == 1
