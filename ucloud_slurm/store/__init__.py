"""The state of the provider in one SQLite file. The only room with SQL."""
