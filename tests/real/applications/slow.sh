#!/bin/bash
# An application that announces its port when there is a file "announce", and listens when there is a file "listen".
set -eu
rm "$UCLOUD_PORT_FILE"
touch begun
until [ -e announce ]; do sleep 0.05; done
echo "$UCLOUD_PORT" > "$UCLOUD_PORT_FILE"
until [ -e listen ]; do sleep 0.05; done
exec python3 "$(dirname "$0")/echo.py" "$UCLOUD_PORT"
