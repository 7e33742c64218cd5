"""Applications that are written as Jinja templates, and how their values are quoted."""
