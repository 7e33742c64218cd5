#!/bin/bash
# An application with a screen, for jobs of tests: a terminal that asks for a line and keeps it in a file.
# Its argument is the password of the screen.
set -eu
umask 077
printf '%s\n' "$1" | tigervncpasswd -f > password
Xtigervnc -nolisten unix -displayfd 3 -geometry 800x600 -depth 24 -rfbport -1 -rfbunixpath "$PWD/screen" \
    -SecurityTypes VncAuth -PasswordFile password 3> display &
until [ -s display ]; do sleep 0.1; done
xterm -display ":$(cat display)" -geometry 100x30+0+0 -bg navy -fg white \
    -e sh -c 'echo "A screen of job $UCLOUD_JOB_ID. Say something:"; read -r line; echo "$line" > typed; sleep 600' &
exec websockify --unix-target="$PWD/screen" "127.0.0.1:$UCLOUD_PORT"
