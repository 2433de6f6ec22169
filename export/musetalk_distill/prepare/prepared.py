"""The results of a preparation: of one video, and of all."""

from dataclasses import asdict, dataclass, field
from typing import Any

from musetalk_distill.shards.clip import Clip


@dataclass(frozen=True)
class PreparedClip:
    """A clip in the work folder: ``first`` is its first frame in the video, at the clip's rate."""

    id: str
    frames: int
    first: int
    file: str
    sha256: str


@dataclass(frozen=True)
class Prepared:
    """A video's clips, or why it has none.

    ``frames`` are all of its frames at the clips' rate; ``held_out`` is what its annotations say, if anything.
    """

    video: str
    speaker: str = ""
    held_out: bool | None = None
    frames: int = 0
    clips: list[PreparedClip] = field(default_factory=list)
    skipped: str | None = None

    @property
    def left_out(self) -> int:
        """Frames without the face or without sound, or in too short a stretch."""
        return self.frames - sum(clip.frames for clip in self.clips)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Prepared":
        """What `to_json` gave; raises TypeError, KeyError or ValueError for anything else."""
        return cls(**{**value, "clips": [PreparedClip(**clip) for clip in value["clips"]]})


@dataclass(frozen=True)
class PrepareReport:
    """What the shards hold, and what was left out: videos with reasons, and frames of videos that were used."""

    clips: list[Clip]
    skipped: list[dict[str, Any]]
    left_out: list[dict[str, Any]]
    warnings: list[str]

    def by_split(self) -> dict[str, dict[str, Any]]:
        """Clips, frames, hours and speakers of each split."""
        table = {}
        for split in ("train", "val"):
            clips = [clip for clip in self.clips if clip.split == split]
            hours = sum(float(clip.frames / clip.fps) for clip in clips) / 3600
            table[split] = {
                "clips": len(clips),
                "frames": sum(clip.frames for clip in clips),
                "hours": round(hours, 4),
                "speakers": len({clip.speaker for clip in clips}),
            }
        return table

    def to_json(self) -> dict[str, Any]:
        return {
            **self.by_split(),
            "skipped": self.skipped,
            "left_out": self.left_out,
            "warnings": self.warnings,
        }

    def table(self) -> str:
        """The same for people."""
        rows = [["split", "clips", "frames", "hours", "speakers"]]
        rows += [[split, *(str(value) for value in row.values())] for split, row in self.by_split().items()]
        lines = ["  ".join(f"{cell:>8}" for cell in row) for row in rows]
        lines += [f"left out of {entry['video']}: {entry['frames']} of {entry['of']} frames" for entry in self.left_out]
        lines += [f"skipped {entry['video']}: {entry['reason']}" for entry in self.skipped]
        return "\n".join(lines)
