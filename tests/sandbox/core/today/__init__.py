"""What today's Core does in its own way: quotas, requests read by type, a WebSocket for each log."""
