"""Many jobs at once on the real cluster while every part is stopped, killed and made to answer wrongly, by a seed."""
