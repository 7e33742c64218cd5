"""What attackers run: each is one file of the standard library, which every account can start.

Their arguments are JSON or words. Those that run until their input is closed print ``ready`` when they have begun.
"""
