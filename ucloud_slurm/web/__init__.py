"""The calls that UCloud makes, and the pages of browsers, as parts of a Flask application."""
