"""The small process that hears UCloud's channel. It lives long, so it imports little: no pydantic, no Flask."""
