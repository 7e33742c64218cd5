#!/bin/bash
# An application with a web page, for jobs of tests: Jupyter, with a notebook that a browser begins with.
set -eu
cat > work.ipynb <<'END'
{"cells": [{"cell_type": "code", "execution_count": null, "metadata": {}, "outputs": [],
  "source": "import os\nprint(os.environ['UCLOUD_JOB_ID'], 6 * 7)"}],
 "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
 "nbformat": 4, "nbformat_minor": 4}
END
echo "$UCLOUD_PORT /notebooks/work.ipynb" > "$UCLOUD_PORT_FILE"
exec jupyter notebook --no-browser --ip=127.0.0.1 --port="$UCLOUD_PORT" --NotebookApp.token= \
    --NotebookApp.base_url="$UCLOUD_BASE_PATH" --NotebookApp.allow_remote_access=True
