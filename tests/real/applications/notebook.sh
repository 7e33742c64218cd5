#!/bin/bash
# An application with a web page, for jobs of tests: Jupyter, with a notebook that a browser begins with.
set -eu
cat > work.ipynb <<'END'
{"cells": [{"cell_type": "code", "execution_count": null, "metadata": {}, "outputs": [],
  "source": "import os\nprint(os.environ['UCLOUD_JOB_ID'], 6 * 7)"}],
 "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
 "nbformat": 4, "nbformat_minor": 4}
END
# Others of the cluster can reach the port too. The browser is told the token with the path that it begins with.
JUPYTER_TOKEN=$(head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
export JUPYTER_TOKEN
echo "$UCLOUD_PORT /notebooks/work.ipynb?token=$JUPYTER_TOKEN" > "$UCLOUD_PORT_FILE"
exec jupyter notebook --no-browser --ip=127.0.0.1 --port="$UCLOUD_PORT" \
    --NotebookApp.base_url="$UCLOUD_BASE_PATH" --NotebookApp.allow_remote_access=True
