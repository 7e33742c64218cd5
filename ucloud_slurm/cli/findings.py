"""What ``check`` finds, one line each."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "failed", "skipped"]
Line = tuple[Level, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    what: str
    level: Level
    text: str

    @property
    def failed(self) -> bool:
        """Whether it must be mended."""
        return self.level == "failed"

    def line(self) -> str:
        """For people."""
        return f"{self.level:<8} {self.what:<10} {self.text}"

    def as_dict(self) -> dict[str, str]:
        """For programs."""
        return {"what": self.what, "level": self.level, "text": self.text}
