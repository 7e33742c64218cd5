"""Programs that the service starts."""
