"""Sphinx: `make docs`."""

import ucloud_slurm

project = "ucloud-slurm"
version = release = ucloud_slurm.__version__
author = "the ucloud-slurm contributors"
project_copyright = "%Y, " + author

html_theme = "furo"
html_title = "ucloud-slurm"
html_copy_source = False
html_show_sphinx = False

# Every reference must lead somewhere; warnings are errors (`make docs`, tests/promises/test_docs.py).
nitpicky = True
keep_warnings = True
default_role = None
highlight_language = "none"
smartquotes_action = "qe"  # two dashes are the beginning of an option
