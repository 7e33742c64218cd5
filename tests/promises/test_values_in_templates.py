"""Whatever a template prints of a value arrives in bash byte for byte, wherever it stands, or is refused."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.promises.test_values_are_data import HOSTILE
from ucloud_slurm.bridge.template.messages import Request
from ucloud_slurm.bridge.template.render import render
from ucloud_slurm.bridge.template.shell_commands import RESERVED
from ucloud_slurm.errors import Refused

REALLY = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
VALUES = st.one_of(
    st.sampled_from(
        (
            *HOSTILE,
            "a\nEOF\ntouch was-here",
            "EOF",
            "\tEOF",
            "x\n\ty",
            "a[$(touch was-here)]",
            "*.*",
            "5",
            "-v",
            "$x",
            "PATH=y",
            "then",
            "'",
            "x'",
            "\n",
            "a\n",
            "}",
            ")",
            "))",
            "]]",
            "done",
            "&",
            "~",
        )
    ),
    st.text(alphabet=st.sampled_from("\n\t#'\"$`\\;|&<>(){}[]*?!~ éx/.:,=-0EOF"), max_size=12),
    st.text(max_size=12),
)

# Where a value may stand -> what "show" is to get, with @ for the value; None where bash has no place for all values.
PLACES = {
    "show {{ v }}": ["@"],
    "show {{ v }} {{ v }}": ["@", "@"],
    "show -o={{ v }} {{ v }}.x /a/{{ v }}/b a{{ v }} {{ v }}f": ["-o=@", "@.x", "/a/@/b", "a@", "@f"],
    "show {{ v }}{{ v }}": ["@@"],
    'show "{{ v }}" "a{{ v }}b{{ v }}"': ["@", "a@b@"],
    "show '{{ v }}' 'a{{ v }}b'": ["@", "a@b"],
    "show \"{{ v }}\"'{{ v }}'{{ v }}": ["@@@"],
    'x=hey; show $x{{ v }} "$x{{ v }}" "${x}{{ v }}"': ["hey@", "hey@", "hey@"],
    'show "$(printf %s {{ v }}.)"': ["@."],
    'show "$(printf %s "$(printf %s "{{ v }}.")")" b': ["@.", "b"],
    "show $(printf %s 'a b') {{ v }}": ["a", "b", "@"],
    'x={{ v }}; show "$x"': ["@"],
    'x="{{ v }}" y={{ v }}/z; show "$x" "$y"': ["@", "@/z"],
    'a=({{ v }} "{{ v }}"); show "${a[@]}"': ["@", "@"],
    'a[0]={{ v }}; show "${a[0]}"': ["@"],
    'export X={{ v }}; show "$X"': ["@"],
    'f() { local y={{ v }}; show "$1" "$y"; }; f {{ v }}': ["@", "@"],
    'for i in {{ v }} b; do show "$i"; done': ["@", "b"],
    "if true; then show {{ v }}; fi": ["@"],
    "while true\ndo\n  show {{ v }}\n  break\ndone": ["@"],
    "case {{ v }} in {{ v }}) show yes {{ v }};; *) show no;; esac": ["yes", "@"],
    "[[ {{ v }} == {{ v }} ]] && show yes {{ v }}": ["yes", "@"],
    '[ {{ v }} = "{{ v }}" ] && show yes': ["yes"],
    "(show {{ v }})": ["@"],
    "{ show {{ v }}; }": ["@"],
    "! show {{ v }}": ["@"],
    "show a && show {{ v }} || show {{ v }}": ["a", "@"],
    "true | show {{ v }} 2>&1": ["@"],
    "show {{ v }}>&1": ["@"],
    "# {{ v }}\nshow yes # {{ v }} '": ["yes"],
    "show yes#{{ v }}": ["yes#@"],
    "show a \\\n  {{ v }} \\\n  b": ["a", "@", "b"],
    "show $'a\\'b' {{ v }}": ["a'b", "@"],
    'show $"a" "$" {{ v }}': ["a", "$", "@"],
    'show "\\"{{ v }}\\"" \\"{{ v }}': ['"@"', '"@'],
    'y="$(cat <<< {{ v }}; echo .)"; show "${y%??}"': ["@"],
    'y="$(cat <(printf %s {{ v }}.))"; show "$y"': ["@."],
    'y="$(cat)" <<EOF\nEOF\nshow {{ v }}': ["@"],
    "y=$((1 + 2)); (( y > 2 )) && show {{ v }}": ["@"],
    'x=ab; show "${x#a}" "${x:-"q}"}" ${x//b/\\}} {{ v }}': ["b", "ab", "a}", "@"],
    "show {{ v | option('-o') }} {{ v | option('-o=') }} {{ [v, 'x'] | join(' ') }}": ["-o", "@", "-o=@", "@", "x"],
    "show {{ v if v else v }} {{ ('a' ~ v) }} {{ 'a b' if true }}": ["@", "a@", "a", "b"],
}
WITHIN = "IFS= read -r -d '' y <<EOF\n$(printf %s {{ v }}.)\nEOF\nshow \"$y\""
DOCUMENTS = {
    "IFS= read -r -d '' y <<EOF\n[{{ v }}] ${y-}{{ v }}\nEOF\nshow \"$y\"": ["[@] @\n"],
    "IFS= read -r -d '' y <<'EOF'\n[{{ v }}]\n$y\n{{ v }}\nEOF\nshow \"$y\"": ["[@]\n$y\n@\n"],
    "IFS= read -r -d '' y <<-EOF\n\ta{{ v }}\n\tEOF\nshow \"$y\"": ["a@\n"],
    'IFS= read -r -d \'\' y <<-"E F"\n\t{{ v }}\n\tE F\nshow "$y"': ["@\n"],
    WITHIN: ["@.\n"],
    'IFS= read -r -d \'\' y <<EOF\n$(printf %s "{{ v }}.") "{{ v }}"\nEOF\nshow "$y"': ['@. "@"\n'],
    "cat <<A > /dev/null; IFS= read -r -d '' y <<EOF\n'\nA\n{{ v }}\nEOF\nshow \"$y\" {{ v }}": ["@\n", "@"],
}
# Where bash would make more of a value than text, at least of some: what is shown when it is not refused.
REFUSED = {
    "show `printf %s {{ v }}`": ["@"],
    'show "`printf %s {{ v }}`"': ["@"],
    'show "${x:-{{ v }}}"': ["@"],
    'show ${x:-"{{ v }}"}': ["@"],
    ": $(( {{ v }} )); show yes": ["yes"],
    "a[{{ v }}]=1; show yes": ["yes"],
    "(( {{ v }} )); show yes": ["yes"],
    "let y={{ v }}; show yes": ["yes"],
    "[[ 1 -eq {{ v }} ]]; show yes": ["yes"],
    "[[ {{ v }} -eq 1 ]]; show yes": ["yes"],
    "[[ -v {{ v }} ]]; show yes": ["yes"],
    "test -v {{ v }}; show yes": ["yes"],
    "printf -v {{ v }} x; show yes": ["yes"],
    "printf {{ '-v' }} {{ v }}; show yes": ["yes"],
    "declare {{ v }}; show yes": ["yes"],
    "declare -i y={{ v }}; show yes": ["yes"],
    "declare -i y; y={{ v }}; show yes": ["yes"],
    "unset {{ v }}; show yes": ["yes"],
    "read {{ v }} < /dev/null; show yes": ["yes"],
    "show $'{{ v }}'": ["@"],
    "show \\{{ v }}": ["@"],
    'show "\\{{ v }}"': ["@"],
    "show ${{ v }}": ["@"],
    'show "${{ v }}"': ["@"],
    "cat <<{{ v }}\nx\n": [],
    "cat <<E{{ v }}\nx\n": [],
    'show "$(case a in a) printf %s {{ v }};; esac)"': ["@"],
    'show "$(case a in a) printf %s x;; esac)" {{ v }}': ["x", "@"],
    "show '{{ v }}": [],
    "b['{{ v }}']=1; show yes": ["yes"],
    'b=(["{{ v }}"]=1); show yes': ["yes"],
    "b[a[0]+{{ v }}]=1; show yes": ["yes"],
    "[[ '{{ v }}' -eq 1 ]]; show yes": ["yes"],
    '[[ 1 -eq "{{ v }}" ]]; show yes': ["yes"],
    'let "y={{ v }}"; show yes': ["yes"],
    '"let" y={{ v }}; show yes': ["yes"],
    "\\let y={{ v }}; show yes": ["yes"],
    "command let y={{ v }}; show yes": ["yes"],
    "> /dev/null let y={{ v }}; show yes": ["yes"],
    "2>&1 let 2>&1 &>/dev/null y={{ v }}; show yes": ["yes"],
    "function f { let y={{ v }}; }; f; show yes": ["yes"],
    "test '-v' {{ v }}; show yes": ["yes"],
    '[ -v "{{ v }}" ]; show yes': ["yes"],
    'printf -v "{{ v }}" x; show yes': ["yes"],
    "wait -n -p {{ v }}; show yes": ["yes"],
    'declare "{{ v }}=1"; show yes': ["yes"],
    'declare -i "y={{ v }}"; show yes': ["yes"],
    'declare -n y="{{ v }}"; show "$y" > /dev/null; show yes': ["yes"],
    "declare -ai y=({{ v }}); show yes": ["yes"],
    "$'let' y={{ v }}; show yes": ["yes"],
    '$"let" y={{ v }}; show yes': ["yes"],
    "printf -v{{ v }} x; show yes": ["yes"],
    "RANDOM={{ v }}; show yes": ["yes"],
    "PS4={{ v }}; show yes": ["yes"],
}
# What is read as a script again: a value that might be more than one plain word is refused.
READ_AGAIN = (
    "eval 'show {{ v }}'",
    "sh -c -- 'echo {{ v }}'",
    "eval show {{ v }}",
    "trap 'echo {{ v }}' EXIT",
    "alias x={{ v }}",
    'bash -c "echo {{ v }}"',
    "/bin/sh -ec 'echo {{ v }}' x",
    'srun bash -c "echo {{ v }}"',
    "ssh n1 {{ v }}",
    'sbatch --wrap="echo {{ v }}"',
    "compgen -W {{ v }}",
)
# A template -> a value that bash would take for the end of a here-document, or that would not be quoted.
FOUND = {
    "y=$(cat <<EOF\n{{ v }}\nEOF\n)": "EOF); touch was-here; (true",
    "y=\"$(cat <<'EOF'\n{{ v }}\nEOF\n)\"": 'EOF)"; touch was-here; : "$(true',
    "cat <(cat <<-EOF\n\t{{ v }}\n\tEOF\n)": "EOF); touch was-here; (true",
    "y=$(cat <<EOF\nx\nEOF)\nshow {{ v }}\ncat <<EOF\nx\nEOF\n": "; touch was-here",
    "cat <<E$x\nE\nshow '{{ v }}'\nE$x\n": "$(touch was-here)",
    "cat <<E\u00a0\nE\nshow '{{ v }}'\nE\u00a0\n": "$(touch was-here)",
    "a[1<<2]=5\nshow {{ v }}\n2]=5\n": "; touch was-here",
    "a=(1 2 ; {{ v }})": "x\ntouch was-here\n",
    "a=((1 2 {{ v }}))": "x\ntouch was-here\n",
    "a=(1); declare a={{ v }}": "($(touch was-here))",
    'f() { local a; a=(1); local a="{{ v }}"; }; f': "([$(touch was-here)]=1)",
    "declare -A a; a[x #y]={{ v }}": "$(touch was-here)",
    "declare -A a=([x #y]={{ v }})": "$(touch was-here)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("node")
    yield folder
    assert [path.name for path in folder.iterdir()] == [], "a value was run"


def shown(folder: Path, template: str, value: str) -> list[str] | None:
    """What the script of a template shows, None when it is refused."""
    try:
        script = render(Request(template, values={"v": value})).script
    except Refused:
        return None
    done = subprocess.run(
        ["/bin/bash", "-c", "show() { printf '%s\\0' \"$@\"; }\n" + script],
        cwd=folder,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        check=False,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.decode().split("\0")[:-1]


def is_refused_anyway(value: str) -> bool:
    return any(not character.isprintable() and character not in "\n\t" for character in value)


@REALLY
@given(st.sampled_from(sorted(PLACES)), VALUES)
@example("show {{ v }}>&1", "2")
@example("show {{ v }}{{ v }}", "--wrap=id")
@example("show {{ v }}{{ v }}", "PS4=x")
@example("[[ {{ v }} == {{ v }} ]] && show yes {{ v }}", "-v")
@example('x=hey; show $x{{ v }} "$x{{ v }}" "${x}{{ v }}"', "y")
def test_a_value_arrives_byte_for_byte_wherever_it_stands(folder: Path, template: str, value: str) -> None:
    seen = shown(folder, template, value)
    assert seen == [text.replace("@", value) for text in PLACES[template]] or is_refused_anyway(value)


@REALLY
@given(st.sampled_from(sorted(DOCUMENTS)), VALUES)
@example(WITHIN, "a\nEOF\ntouch was-here")
@example(WITHIN, "a\nb")
def test_a_value_arrives_in_a_here_document_or_is_refused(folder: Path, template: str, value: str) -> None:
    seen = shown(folder, template, value)
    assert seen in (None, [text.replace("@", value) for text in DOCUMENTS[template]])
    if "\n" not in value and value.strip("\t") not in ("EOF", "E F") and not value.startswith("\t"):
        assert seen is not None or is_refused_anyway(value)


@REALLY
@given(st.sampled_from(sorted(REFUSED)), VALUES)
def test_where_bash_would_make_more_of_a_value_it_is_refused(folder: Path, template: str, value: str) -> None:
    seen = shown(folder, template, value)
    # A number may stand there; some, such as 08, bash does not take in some of the places, and prints nothing.
    assert seen in (None, [], [text.replace("@", value) for text in REFUSED[template]])
    assert seen is None or value.lstrip("-").isdigit()


@pytest.mark.parametrize("template", FOUND)
def test_a_value_cannot_end_what_it_stands_in(folder: Path, template: str) -> None:
    shown(folder, template, FOUND[template])
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("template", READ_AGAIN)
@pytest.mark.parametrize("value", ["$(touch was-here)", "; touch was-here", "a b", ">was-here", ""])
def test_a_value_is_no_part_of_a_script_that_is_read_again(template: str, value: str) -> None:
    assert render(Request(template, values={"v": "file-1.txt"})).script.count("file-1.txt") == 1
    with pytest.raises(Refused, match="pass it as an argument, as in bash -c"):
        render(Request(template, values={"v": value}))


def test_a_value_can_be_handed_over_to_another_shell(folder: Path) -> None:
    value = "'; touch was-here; $(touch was-here)"
    assert shown(folder, 'bash -c \'printf "%s\\0" "$1"\' bash {{ v }}', value) == [value]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("show a {{ v }}#b c", ["a", "#b", "c"]),
        ("show {{ v }}~/x", ["~/x"]),
        ('command_not_found_handle() { show "$@"; }\n{{ v }}done a', ["done", "a"]),
    ],
)
def test_an_empty_value_lets_nothing_begin_a_word(folder: Path, template: str, expected: list[str]) -> None:
    assert shown(folder, template, "") == expected


def test_a_value_makes_no_other_name_of_a_variable_in_a_here_document() -> None:
    with pytest.raises(Refused, match="cannot follow a variable"):
        render(Request("cat <<E\n$x{{ v }}{{ w }}\nE", values={"v": "", "w": "y"}))


# Pieces of scripts as authors write them, from which it is not easy to find out again.
SNIPPETS = (
    "x=ab",
    "# it's \"here",
    "echo 'it'\\''s' \"a 'b' \\\" c\" > /dev/null",
    "y=$(echo \"a ) b\" ')' # )\n)",
    "cat <<EOF > /dev/null\n it's \"$x\" $(echo ')' \"'\") `echo a`\nEOF",
    "cat <<'EOF' > /dev/null\n$( ` ' \"\nEOF",
    "cat <<-E > /dev/null\n\t'\n\tE",
    "case $x in (a) true;; b|c) true;; *) true; esac",
    'f() { true "$@"; }; f a',
    "if [[ $x == a* && ( $x =~ ^(a|b)+$ ) ]]; then true; fi",
    "for ((i=0; i<2; i++)); do true; done",
    "z=${x:-a}",
    'z="${x:-it\'s}"',
    "z=${x#'a'}",
    'z="${x//\\"/}"',
    "z=$((1 << 2)); ((z)); z=$(( (1+2) * 3 ))",
    "a=(1 '2' \"3\")",
    'z=`echo "it\'s"`',
    "echo \\' \\\" \\\\ > /dev/null",
    "echo $'it\\'s' > /dev/null",
    "true && { false || true; }",
    "(true; (true))",
    "z=$( (echo a) | cat)",
    'z="$(echo "$(echo \'a)\')")"',
    "true a#b \"#\" '#' \\# # c'",
    "echo ${x} $# $$ $? > /dev/null",
    'z="a\nb\' c"',
    'diff <(echo "\'") <(echo "\'")',
    'cat <<< "it\'s" > /dev/null',
    "cat <<A <<B > /dev/null\n'\nA\n\"\nB",
    "shopt -s extglob; [[ $x == @(a|b)* ]]",
    "cat <<\\E > /dev/null\n$(\nE",
    "z=$(cat <<E\nit's\nE\n)",
    "true \\\n 'a\n' # \\",
    "z=${x/\\}/a}",
    "cat <<E > /dev/null\na\\\nE\nE",
    "true {1..3} ~ * ?",
)


@REALLY
@given(st.lists(st.sampled_from(SNIPPETS), max_size=4), VALUES, st.booleans())
def test_a_value_arrives_behind_any_script_or_is_refused(folder: Path, snippets: list[str], value: str, within: bool) -> None:
    before = "\n".join(snippets)
    template = f'{before}\nshow {{{{ v }}}} "{{{{ v }}}}"'
    if within:
        template = f'show "$(\n{template}\necho .)"'
    seen = shown(folder, template, value)
    if within:
        # Bash leaves little of NUL characters and line ends within $(...), and cannot read some of these scripts back
        # there itself; what counts is that nothing was run.
        assert seen is None or len(seen) <= 1
    else:
        assert seen in (None, [value, value])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("((true); true)", "(( is not followed by"),
        ("z=$((echo a) | cat)", "(( is not followed by"),
        ("shopt -s extglob; [[ a == @(a|b) ]]", "extended patterns"),
        ("z=$[1 + 1]", "$[...]"),
        ("cat <<$x\n$x\n", "ends a here-document"),
        ('z="${x:-it\'s}"', "single quotes"),
        ("z=$(cat <<E)\nit's\nE\n", "here-document"),
        ('cat <<E "a\nb"\nE\n', "here-document"),
        ("z=$(case a in a) true;; esac)", "case within"),
    ],
)
def test_where_it_is_not_certain_what_bash_reads_the_next_value_is_refused_and_only_then(
    folder: Path, script: str, words: str
) -> None:
    assert render(Request(script)).script == script.strip("\n")
    with pytest.raises(Refused, match="of the script: ") as refused:
        render(Request(f"{script}\nshow {{{{ v }}}}", values={"v": "a"}))
    assert words in refused.value.why


PROGRAMS = {"time"}  # there may be one of that name


@pytest.mark.parametrize("before", ["", "true; ", "if ", "{ ", "! ", "x=1 ", "(", "y=$(", "for i in a; do "])
@pytest.mark.parametrize(
    "value", [*sorted(RESERVED - PROGRAMS), "x=y", "PATH=z", "[[", "{", "!", "((", "#a", "a b", "$(id)", "~"]
)
def test_a_value_that_is_to_be_a_command_is_the_name_of_one(folder: Path, before: str, value: str) -> None:
    after = {"if ": "; then true; fi", "{ ": "; }", "(": ")", "y=$(": '); printf %s "$y"', "for i in a; do ": "; done"}
    handle = "command_not_found_handle() { printf '<%s>' \"$@\"; }\n"
    seen = shown(folder, f"{handle}{before}{{{{ v }}}} a{after.get(before, '')}\nprintf '\\0'", value)
    assert seen == [f"<{value}><a>"]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_most_scripts_can_be_followed_by_a_value(folder: Path, snippet: str) -> None:
    seen = shown(folder, f"{snippet}\nshow {{{{ v }}}}", "it's $x")
    doubtful = ("z=${x#'a'}", 'z="${x:-it\'s}"', "shopt")
    assert seen == ["it's $x"] or snippet.startswith(doubtful)
