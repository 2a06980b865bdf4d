"""``[policy]``: what holds for every message, whatever its category; off until configured."""

from dataclasses import dataclass
from typing import Annotated

from config.reader import Between


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """``[policy]``: the same text to the same number, from the same app, and how often within which time."""

    duplicate_text_within_s: Annotated[float, Between(0, 30 * 86_400)] = 0.0  # 0: off
    duplicate_texts: Annotated[int, Between(1, 100)] = 1
