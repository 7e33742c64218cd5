"""What is live: WebSockets, logs that are followed, shells. All of a process in one event loop."""
