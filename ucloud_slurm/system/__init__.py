"""Processes, sockets, files and accounts of this host. Only the standard library is imported here."""
