"""What must not be forgotten, in SQLite through sqlite-utils. The only room with SQL."""
