"""How long to wait after a refusal. Pure: a policy, a count and a random number in, seconds out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling waits with jitter, so that a thousand edges do not come back in the same second."""

    first_s: float = 0.5
    max_s: float = 60.0

    def wait_s(self, attempt: int, *, chance: float) -> float:
        """Before try `attempt` + 1, where `chance` is uniform in [0, 1): between half of the doubled wait and all."""
        whole = min(self.max_s, self.first_s * 2.0 ** min(attempt, 32))
        return whole * (0.5 + 0.5 * chance)
