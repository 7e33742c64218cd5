"""The process that receives UCloud's notifications. It runs always, so it loads little: no pydantic, no Flask."""
