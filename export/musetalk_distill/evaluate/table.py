"""The figures of an evaluation as lines of text."""

from typing import Any

COLUMNS = ("unet M", "dec. M", "unet GF", "dec. GF", "ms", "PSNR", "SSIM", "PSNR/t", "SSIM/t", "lips r", "lag")
FOOT = "M: million parameters. GF: GFLOP a frame. ms: a frame, one at a time, FP32. /t: against the teacher."


def table(report: dict[str, Any]) -> str:
    """What `evaluate` found, a line a model, in the order it was asked for."""
    rows = [["model", *COLUMNS], *([row["name"], *_cells(row)] for row in report["models"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(pairs)
        ).rstrip()
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([*lines, FOOT, f"{report['clips']} clips; {report['device']}"])


def _cells(row: dict[str, Any]) -> list[str]:
    truth, teacher, lips = row["truth"] or {}, row["teacher"] or {}, row["lips"] or {}
    return [
        f"{row['unet_parameters'] / 1e6:.2f}",
        f"{row['decoder_parameters'] / 1e6:.2f}",
        f"{row['unet_gflop']:.2f}",
        f"{row['decoder_gflop']:.2f}",
        f"{row['ms']:.1f}",
        *(
            _cell(values.get(name), digits)
            for values in (truth, teacher)
            for name, digits in (("psnr", 2), ("ssim", 4))
        ),
        _cell(lips.get("correlation"), 3),
        _cell(lips.get("lag"), 0),
    ]


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
