"""The mapping from users of UCloud to users of this host, and their impersonation."""
