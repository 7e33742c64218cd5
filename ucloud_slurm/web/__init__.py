"""The calls that UCloud makes, as a Flask application. Thin."""
