"""The table of a suite: fault by side, with what became of the messages; as text and as a page."""

from __future__ import annotations

import html
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.controls import Caught
from tests.faults.harness import Result

HEADS = (
    "fault", "side", "runs", "attempted", "confirmed", "unknown", "refused", "handled", "duplicates", "lost",
    "recovery", "worst", "",
)  # fmt: skip
NUMBERS = range(2, 12)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault on one side, over all its runs. Seconds of recovery are from the heal to the first fresh message."""

    title: str
    side: str
    runs: int
    invalid: int
    counts: Counter[str]
    recoveries: tuple[float, ...]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Every run was valid, and nothing was wrong."""
        return not self.invalid and not self.problems

    @property
    def state(self) -> str:
        """In a word or two."""
        if self.problems:
            return "FAILED"
        return f"{self.invalid} INVALID" if self.invalid else "passed"

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of the heads."""
        count = self.counts
        refused = count["not_sent"] + count["unroutable"] + count["rejected"]
        times = self.recoveries
        return (
            self.title, self.side, str(self.runs),
            *(f"{n:,}" for n in (count["attempted"], count["confirmed"], count["unknown"], refused)),
            f"{count['handled']:,}", f"{count['duplicates']:,}", f"{count['lost']:,}",
            f"{statistics.median(times):.2f}" if times else "-", f"{max(times):.2f}" if times else "-", self.state,
        )  # fmt: skip


def rows(results: Iterable[Result]) -> list[Row]:
    """One row for each fault and side, in the order of the runs."""
    grouped: dict[str, list[Result]] = {}
    for result in results:
        grouped.setdefault(result.fault.name, []).append(result)
    found: list[Row] = []
    for some in grouped.values():
        for side in some[0].fault.sides:
            verdicts = [result.verdicts[side] for result in some if side in result.verdicts]
            counts: Counter[str] = Counter()
            for verdict in verdicts:
                counts.update(verdict.counts)
            found.append(
                Row(
                    title=some[0].fault.title,
                    side=side,
                    runs=len(some),
                    invalid=sum(result.invalid is not None for result in some),
                    counts=counts,
                    recoveries=tuple(v.recovery for v in verdicts if v.recovery is not None),
                    problems=tuple(
                        f"seed {result.seed}: {problem}"
                        for result in some
                        for problem in (result.verdicts[side].problems if side in result.verdicts else ())
                    ),
                )
            )
    return found


def as_text(table: Sequence[Row], caught: Sequence[Caught]) -> str:
    """The table for a terminal."""
    lines = [HEADS, *(row.cells() for row in table)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    text = [
        "  ".join(
            cell.rjust(width) if column in NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths).rstrip())
    for row in table:
        text += [f"! {row.title}, {row.side}: {problem}" for problem in row.problems[:5]]
    text.append("")
    text += summary(table, caught)
    return "\n".join(text)


def summary(table: Sequence[Row], caught: Sequence[Caught]) -> list[str]:
    """The sums, in a few lines."""
    counts: Counter[str] = Counter()
    for row in table:
        counts.update(row.counts)
    found = [
        f"{counts['attempted']:,} attempted = {counts['confirmed']:,} confirmed + {counts['not_sent']:,} not sent "
        f"+ {counts['unroutable']:,} unroutable + {counts['rejected']:,} rejected + {counts['unknown']:,} unknown "
        f"({counts['recovered']:,} of which were handled) + {counts['unfinished']:,} of killed publishers",
        f"{counts['handled']:,} handled, {counts['duplicates']:,} of them again; lost: {counts['lost']:,}",
    ]
    if caught:
        missed = [one.control.mutant for one in caught if not one.caught]
        found.append(f"broken variants caught: {len(caught) - len(missed)}/{len(caught)}{' ' if missed else ''}")
        found[-1] += ", ".join(missed)
    return found


def as_html(table: Sequence[Row], caught: Sequence[Caught], about: str) -> str:
    """The same as one page, without anything from elsewhere."""
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in HEADS)
    body = "".join(
        f'<tr class="{"passed" if row.passed else "failed"}">'
        + "".join(
            f'<td class="{"n" if column in NUMBERS else "t"}">{html.escape(cell)}</td>'
            for column, cell in enumerate(row.cells())
        )
        + "</tr>"
        for row in table
    )
    problems = "".join(
        f"<li>{html.escape(f'{row.title}, {row.side}: {problem}')}</li>" for row in table for problem in row.problems
    )
    controls = "".join(
        f"<tr class={'passed' if one.caught else 'failed'}><td>{html.escape(one.control.mutant)}</td>"
        f"<td>{html.escape(one.control.fault.title)}</td>"
        f"<td>{html.escape(', '.join(one.reasons) or 'not caught')}</td></tr>"
        for one in caught
    )
    sums = "".join(f"<p>{html.escape(line)}</p>" for line in summary(table, caught))
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>eventbus: fault suite</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; width: 100%; font-size: 14px; }}
th, td {{ padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
tr.failed td {{ background: #fde8e8; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #1b1b1b; color: #ddd; }} th, td {{ border-color: #444; }} tr.failed td {{ background: #5b2020; }}
}}
</style>
<h1>Fault suite</h1><p>{html.escape(about)}</p>{sums}
<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>
{f"<h2>Problems</h2><ul>{problems}</ul>" if problems else ""}
{f"<h2>Broken variants</h2><table><tbody>{controls}</tbody></table>" if controls else ""}
</html>
"""


def write(folder: Path, table: Sequence[Row], caught: Sequence[Caught], about: str) -> None:
    """Both, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.txt").write_text(f"{about}\n\n{as_text(table, caught)}\n")
    (folder / "faults.html").write_text(as_html(table, caught, about))
