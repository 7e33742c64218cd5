"""What UCloud knows us by."""

from pathlib import Path

from ucloud_slurm.errors import Misconfigured


def read_refresh_token(path: Path) -> str:
    """The refresh token in a file of one line.

    :raises Misconfigured: when the file cannot be read or is empty
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise Misconfigured([f"ucloud.refresh_token_file: {path} cannot be read ({error.strerror})."]) from None
    except UnicodeDecodeError:
        raise Misconfigured([f"ucloud.refresh_token_file: {path} is not a text file."]) from None
    if not token or any(character.isspace() for character in token):
        raise Misconfigured([f"ucloud.refresh_token_file: {path} should hold the refresh token in one line."])
    return token
