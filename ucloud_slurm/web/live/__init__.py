"""WebSockets: logs as they grow, and shells. A process serves all of them in one event loop."""
