"""Shows the demo as text: a line for each event and each batch."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from microbatch.broker.app.config import Config
from microbatch.broker.inspect.snapshot import Snapshot
from microbatch.broker.wire.batch import BatchInfo
from microbatch.ops.letters import VALUES, Total

_TRIGGER_STYLES = {"size": "green", "tick": "cyan", "flush": "magenta", "idle": "blue"}
_INDENT = 12  # batches are shown to the right of the events


class DemoView:
    """Writes the demo to a console: in colour on a terminal, plain elsewhere. For any thread.

    It writes ASCII if the console's encoding is not Unicode.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._leads_to = "`->" if console.options.ascii_only else "└─▶"

    def starting(self) -> None:
        self._print(
            Text.assemble(("Microbatch", "bold"), ": starting a server, a scheduler and two workers ...")
        )

    def started(self, config: Config) -> None:
        values = ", ".join(f"{letter}={value}" for letter, value in VALUES.items())
        self._print(
            Text(
                f"Letters are recorded one by one. {config.max_size} make a batch, and so does the end of a "
                f"cycle of {config.frequency} ms.\nA worker adds each batch up ({values}; c has no value), "
                "and this process handles the totals.\n",
                style="dim",
            )
        )

    def tick(self, at_ms: int) -> None:
        self._print(_time(at_ms).append("tick", style="dim cyan"))

    def recorded(self, at_ms: int, letter: str) -> None:
        self._print(_time(at_ms).append("recorded ").append(letter, style="bold yellow"))

    def stopped(self, at_ms: int) -> None:
        self._print(_time(at_ms).append("stop", style="dim magenta"))

    def handled(self, at_ms: int, total: Total, batch: BatchInfo, *, latency_ms: int) -> None:
        trigger = str(batch.trigger)
        line = _time(at_ms).append(f"{'':{_INDENT}}{self._leads_to} batch of {batch.size}  ")
        line.append("trigger ", style="dim").append(f"{trigger:<5}", style=_TRIGGER_STYLES[trigger])
        line.append("  latency ", style="dim").append(f"{latency_ms:4d} ms  ")
        self._print(line.append_text(_outcome(total, "total ")))

    def ended(self, totals: Sequence[Total], recorded: int, found: Snapshot) -> None:
        """Show the totals, and the ledger as the server keeps it."""
        said = Text(", ").join(_outcome(total) for total in totals)
        self._print(Text("\nTotals  ", style="bold").append_text(said))
        account = found.account
        ledger = (
            f"{recorded} recorded = {account.done} done + {account.dead} dead "
            f"+ {account.in_flight} in flight + {account.waiting} waiting"
        )
        style = "bold green" if recorded == account.recorded else "bold red"
        self._print(Text("Ledger  ", style="bold").append(ledger, style=style))

    def failed(self, differences: Sequence[str]) -> None:
        for difference in differences:
            self._print(Text(f"Not as it should be: {difference}", style="bold red"))

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)


def _time(at_ms: int) -> Text:
    return Text.assemble((f"{at_ms / 1000:7.3f} s  ", "dim"))


def _outcome(total: Total, prefix: str = "") -> Text:
    if total.error:
        return Text(f"failed: {total.error}", style="bold red")
    return Text(f"{prefix}{total.value}", style="bold")
