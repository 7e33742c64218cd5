"""Hooks: programs of the site that get events. The daemon that runs them under an account of its own, and its client."""
