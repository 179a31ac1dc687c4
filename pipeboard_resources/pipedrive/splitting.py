"""Where to cut a range of update_time in two, so that two readers have about as much left to read each. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

__all__ = ["Stretch"]

# A cut costs half a page on average, so it must save more.
PAGES_WORTH_A_CUT = 3
# Where records lie so much denser at one end than at the other, half of the time is not half of the records.
DENSER = 8
BOLD_PAGES = 8


@dataclass(frozen=True, slots=True)
class Stretch:
    """Seconds since 1970 from `low` to `end` (exclusive); densities are records a second at either end, as met there."""

    low: int
    end: int
    density_at_low: float
    density_at_end: float

    @classmethod
    def down_from(cls, end: int, density: float, page_size: int) -> Self:
        """What lies before `end`, when nothing is known but how dense it is there: two bold guesses long, back to 1970."""
        return cls(max(0, end - int(2 * BOLD_PAGES * page_size / density)), end, density, density)

    @property
    def records(self) -> float:
        """How many records it seems to hold."""
        return (self.end - self.low) * (self.density_at_low + self.density_at_end) / 2

    def cut(self, page_size: int, records_met: int) -> int | None:
        """The first second of its upper part; None when it is not worth a request.

        Half of the time, but where records lie much denser at one end (a mass update puts most of a list into an hour,
        and halving years down to that hour would cost a request each time): where half of a bold guess would end.
        """
        if self.end - self.low < 2 or self.records < PAGES_WORTH_A_CUT * page_size:
            return None
        half = (self.low + self.end) // 2
        guess = max(BOLD_PAGES * page_size, records_met // 2)
        if self.density_at_low > DENSER * self.density_at_end:
            return max(self.low + 1, min(half, self.low + int(guess / self.density_at_low)))
        if self.density_at_end > DENSER * self.density_at_low:
            return min(self.end - 1, max(half, self.end - int(guess / self.density_at_end)))
        return half
