"""Whether two machines' encoders of one contract agree, by the fingerprints that they left."""

from __future__ import annotations

from embedcache.contract import TOLERANCE, Contract
from embedcache.errors import FingerprintDiffersError
from embedcache.provenance import Fingerprint


def require_agreement(
    name: str, contract: Contract, here: Fingerprint | None, there: Fingerprint | None
) -> None:
    """Refuse to lay vectors of two machines side by side that compute otherwise.

    Nothing is refused where one of them left no fingerprint.

    Raises:
        FingerprintDiffersError: naming both machines' versions.
    """
    if here is None or there is None:
        return
    distance, tolerance = here.distance(there), TOLERANCE[contract.precision]
    if distance > tolerance:
        raise FingerprintDiffersError(name, distance, tolerance, here.machine, there.machine)
