"""The attack kit: the installed service under a systemd that lives, and everything that somebody could try against it."""
