"""How much may be asked beyond the ordinary, so that help for the slow never becomes a load of its own."""

MOST = 10.0  # saved up in quiet times


class Budget:
    """Every ordinary call earns `share` of an extra one: of n calls at most start + share n are extra."""

    def __init__(self, share: float, start: float = 0.0):
        self._share = share
        self._saved = start

    def earn(self) -> None:
        self._saved = min(self._saved + self._share, MOST)

    def spend(self) -> bool:
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
