"""What setup.cfg cannot say: the program that sudo starts is made when a wheel is built, not copied."""

import sys
from pathlib import Path

from setuptools import Command, setup

sys.path.insert(0, str(Path(__file__).parent))
from ucloud_slurm.users import bundle


class BuildScripts(Command):
    """Makes the one script that is not an entry point."""

    user_options = [("build-dir=", "d", "folder for the script")]

    def initialize_options(self) -> None:
        """See :class:`Command`."""
        self.build_dir = ""

    def finalize_options(self) -> None:
        """See :class:`Command`."""
        self.build_dir = self.build_dir or self.get_finalized_command("build").build_scripts

    def get_source_files(self) -> list[str]:
        """Nothing that the modules are not already."""
        return []

    def run(self) -> None:
        """See :class:`Command`."""
        self.mkpath(self.build_dir)
        bundle.write(Path(self.build_dir) / bundle.NAME)


setup(scripts=[bundle.NAME], cmdclass={"build_scripts": BuildScripts})
