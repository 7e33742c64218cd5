"""Processes, sockets, files, accounts and logs of this host. Imports the standard library only."""
