# What the maintainer scripts of both kinds of packages have in common. Each function may run again after it was broken off.

PROGRAM=/opt/ucloud-slurm
# The units that an upgrade has stopped and will start again, one a line. Gone after a boot, as is what was stopped.
PAUSED=/run/ucloud-slurm.paused

say() {
    echo "ucloud-slurm: $*" >&2
}

systemd_runs() {
    [ -d /run/systemd/system ]
}

# Nothing of an installation by hand is overwritten: its units in /etc would win over those of the package.
refuse_installation_by_hand() {
    if [ -e "$PROGRAM/pyvenv.cfg" ] && ! grep -q '^package = ' "$PROGRAM/pyvenv.cfg"; then
        say "$PROGRAM was made by hand. Move it away, then install again: mv $PROGRAM $PROGRAM.old"
        exit 1
    fi
    for unit in @UNITS@; do
        if [ -e "/etc/systemd/system/$unit" ]; then
            say "/etc/systemd/system/$unit would take the place of the unit in the package. Delete it, then install again."
            exit 1
        fi
    done
}

# Stops what would start a program of the old release on files of the new one. Services with a socket go on: they have loaded
# what they need, and are restarted at the end.
pause() {
    systemd_runs || return 0
    for unit in @PAUSED_UNITS@; do
        case "$(systemctl is-active "$unit" 2>/dev/null)" in
        active | activating | reloading)
            grep -qsx "$unit" "$PAUSED" || echo "$unit" >>"$PAUSED"
            systemctl stop "$unit" || say "$unit cannot be stopped; the upgrade goes on."
            ;;
        esac
    done
}

# Lets what runs change to the installed release. What does not run is left alone.
restart() {
    systemd_runs || return 0
    systemctl daemon-reload
    systemctl try-restart @RESTARTED_UNITS@ || say "a service did not start: journalctl -u 'ucloud-slurm*'"
}

# Starts again what pause has stopped, the last first.
resume() {
    systemd_runs && [ -e "$PAUSED" ] || return 0
    tac "$PAUSED" | while read -r unit; do
        systemctl start --no-block "$unit" || say "$unit cannot be started: systemctl status $unit"
    done
    rm -f "$PAUSED"
}

make_accounts_and_folders() {
    systemd-sysusers /usr/lib/sysusers.d/ucloud-slurm.conf || return 1
    systemd-tmpfiles --create /usr/lib/tmpfiles.d/ucloud-slurm.conf
}

# The file that sudo starts has modules that are compiled by the Python that is here, so that it is made here.
make_program_for_sudo() {
    new="$PROGRAM/bin/.ucloud-slurm-as-user"
    if "$PROGRAM/bin/python3" -I -B -c 'import sys
from pathlib import Path
from ucloud_slurm.users import bundle
try:
    bundle.write(Path(sys.argv[1]))
except OSError as error:
    sys.exit(f"ucloud-slurm: {error}")' "$new" && mv -f "$new" "$PROGRAM/bin/ucloud-slurm-as-user"; then
        return 0
    fi
    rm -f "$new"
    say "$PROGRAM/bin/ucloud-slurm-as-user could not be made. Make space on the disk, then: @AGAIN@"
    return 1
}

# Without bytecode every start takes longer, and nothing else: no reason to fail.
compile() {
    "$PROGRAM/bin/python3" -I -m compileall -q -j 0 -x '/site-packages/pip/' "$PROGRAM/lib" >/dev/null 2>&1 ||
        say "the modules could not be compiled, so that starts take longer. Make space on the disk, then: @AGAIN@"
}

clear_bytecode() {
    [ ! -d "$PROGRAM/lib" ] || find "$PROGRAM/lib" -name __pycache__ -type d -prune -exec rm -rf {} +
}

stop_for_good() {
    if systemd_runs; then
        systemctl stop @UNITS@ || :
    fi
    systemctl --quiet disable @ENABLED_UNITS@ || :
    rm -f "$PAUSED"
}

# With what was made or installed there later: bytecode, the program for sudo, pyslurm.
delete_program() {
    rm -rf "$PROGRAM"
    ! systemd_runs || systemctl daemon-reload
}
