"""Installs, upgrades and removes the packages in a clean folder of each distribution, under a systemd that lives there."""
