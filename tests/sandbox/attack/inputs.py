"""What is hostile in itself: values, names, messages, and what may stand in the place of a file."""

from typing import Any

# Each tries to become more than a value; {marker} is a file that must never appear.
TEXTS = (
    "$(touch {marker})",
    "`touch {marker}`",
    "'; touch {marker}; '",
    '"; touch {marker}; "',
    "\\'; touch {marker}; \\'",
    "| touch {marker}",
    "&& touch {marker}",
    "& touch {marker} &",
    ">{marker}",
    "<(touch {marker})",
    "${{IFS}}touch",
    "$((`touch {marker}`))",
    "--wrap=touch {marker}",
    "--uid=0",
    "-u root",
    "--",
    "-",
    "!!",
    "{{a,b}}",
    "~root",
    "*",
    "@{marker}",
    "%j",
    "$'\\x27; touch {marker}; \\x27'",
    "a'$(touch {marker})'b",
    "\\$(touch {marker})",
    "'\"'\"'; touch {marker} #",
    "#SBATCH --uid=0",
    "EOF\\ntouch {marker}",
    "\t; touch {marker}",
    "é; touch {marker}",
    "\u202e; touch {marker}",
    "🙂`touch {marker}`",
    "=touch {marker}",
    "[[ -e x ]] || touch {marker}",
    "x" * 100_000,
)
LINES = (
    "x\n#SBATCH --uid=0",
    "x\r#SBATCH --uid=0",
    "x\ntouch {marker}",
    "\n",
    "x\u2028touch {marker}",
    "x\x85touch {marker}",
    "x\x0btouch {marker}",
    "x\x1b[2J",
    "x\x00y",
    "x\x7f",
)

# Fields of a job other than its parameters; each gets every text.
FIELDS = (
    "name",
    "application",
    "product",
    "category",
    "provider",
    "module",
    "variable",
    "owner",
    "project",
    "image",
    "backend",
    "word",
    "id",
)

# Names that resemble those of people.
OWNERS = (
    "root",
    "alice",
    "bob",
    "ALICE#1",
    "Alice#1 ",
    " Alice#1",
    "Alice#1\n",
    "Alice#1\x00",
    "Alice#",
    "Alice#1;Bob#2",
    "Alice#1,Bob#2",
    "_UCloud",
    "#P_example",
    "",
    "../Alice#1",
    "Alice#1' or '1'='1",
    "%",
    "\u0410lice#1",
    "ucloud-slurm",
)

# What may stand in the place of a log.
LOGS = (
    "ln -sf /etc/shadow {log}",
    "ln -sf /etc/passwd {log}",
    "rm -f {log}; mkfifo {log}",
    "rm -f {log}; mkdir {log}",
    "ln -sf /dev/zero {log}",
    "echo mine > ~/private; ln -sf ~/private {log}",
    "rm -f {log}; ln -s {log} {log}",
    "ln -sfn / {log}",
    "ln -sf {bobs} {log}",
)

# ... and of a job's folder.
FOLDERS = ("ln -s /tmp {folder}", "ln -s {bob} {folder}", "touch {folder}", "mkfifo {folder}", "ln -s {folder} {folder}")

# Messages to the runner that are right.
START = {"verb": "start", "command": "/usr/bin/sbatch", "arguments": ["--parsable"]}
OPEN: dict[str, Any] = {"verb": "open"}
PREPARE: dict[str, Any] = {"verb": "prepare", "folder": "{home}/x", "files": {}}
SHELL: dict[str, Any] = {"verb": "terminal", "command": "/usr/bin/srun"}
# What is changed in a message that is right otherwise, and to what.
CHANGES: tuple[tuple[dict[str, Any], str, list[Any]], ...] = (
    (
        START,
        "user",
        [
            "root",
            "-r",
            "#0",
            "#-1",
            "0",
            "",
            "alice bob",
            "../alice",
            "nobody",
            "slurm",
            "daemon",
            "mysql",
            "ucloud-slurm",
            "root ",
            "a/b",
            "al\nice",
            "%sudo",
            None,
            5,
        ],
    ),
    (START, "verb", ["", "exec", "shell", "run", "go", "drop", "Start", "start ", "__init__", None, 1, ["start"]]),
    (
        START,
        "command",
        [
            "/bin/sh",
            "sbatch",
            "/usr/bin/env",
            "/usr/bin/../bin/sbatch",
            "",
            None,
            "/var/tmp/sbatch",
            "/usr/bin/sbatch\x00",
            "/usr/bin/srun",
            "/tmp/x/sbatch",
        ],
    ),
    (
        START,
        "arguments",
        [
            ["x.sh"],
            ["--uid=0"],
            ["--gid=0"],
            ["--wrap=id"],
            ["-n1"],
            "--help",
            None,
            ["--", "/bin/sh"],
            [5],
            [["--x"]],
            ["--get-user-env=L"],
            ["--uid", "0"],
            ["--ui=0"],
            ["--parsable", "--wra=id"],
            ["--get-user=L"],
            ["--nic=1"],
            ["--parsable=1"],
            ["--export-file=/etc/passwd"],
        ],
    ),
    (START, "conf", ["", None, "slurm.conf", "/proc/self/environ", "/tmp/../etc/passwd", "{own}", "/nowhere"]),
    (START, "ends", ["5", None, [1], 1e300, True]),
    (START, "deadline", ["5", None, [1], 1e300, True]),
    (
        OPEN,
        "path",
        [
            "/etc/shadow",
            "/etc/passwd",
            "stdout-0.log",
            "/x/../stdout-0.log",
            "/x/job.sh",
            None,
            "/x/stdout-0.log/",
            "/x/stdout-0.log\x00",
            "/x/.bashrc",
        ],
    ),
    (PREPARE, "folder", ["", "jobs", "/a/../b", None, "/root/x", "/x\x00y"]),
    (PREPARE, "files", [{"../x.sh": ""}, {"/etc/x.sh": ""}, [], None, {".bashrc": ""}, {"x": ""}, {"job.sh": 5}]),
    (
        SHELL,
        "arguments",
        [
            ["--pty", "/bin/sh", "-c", "id"],
            ["/bin/bash"],
            ["--uid=0", "/bin/bash", "-l"],
            None,
            [],
            ["-x", "/bin/bash", "-l"],
            ["/bin/zsh", "-l"],
            ["--jobid=1", "--ui=0", "/bin/bash", "-l"],
            ["--jobid=1", "--pt", "/bin/bash", "-l"],
            ["--jobid=1", "--export=ALL", "/bin/bash", "-l"],
        ],
    ),
)
WRONG = [form | {key: value} for form, key, values in CHANGES for value in values]

# What is no message.
NO_MESSAGES = (
    b"",
    b"\x00\x00\x00\x05hello",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x02[]",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x00\x00\x00\x04null",
    b"\x00\x00\x10\x00{",
)
