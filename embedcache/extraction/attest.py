"""Before vectors join others: does this machine's encoder give what theirs gave?"""

from __future__ import annotations

from collections.abc import Sequence

from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.progress import Progress
from embedcache.provenance import Fingerprint
from embedcache.store.agreement import require_agreement
from embedcache.store.lease import FeatureLease


def attest(
    encoders: Sequence[ResolvedEncoder],
    leases: Sequence[FeatureLease],
    found: Sequence[Fingerprint | None],
    progress: Progress,
) -> None:
    """Hold self-checks against what feature sets say; before `FeatureLease.start_run`.

    A feature set that is new keeps the fingerprint found.

    Args:
        encoders: whose.
        leases: of each.
        found: of each, where it is going to run.
        progress: is told where there is nothing to compare with.

    Raises:
        FingerprintDiffersError: naming both machines' versions.
    """
    for encoder, lease, here in zip(encoders, leases, found, strict=True):
        if lease.fresh:
            lease.settle_fingerprint(here)
        elif here is not None and lease.fingerprint is None:
            progress.note(
                f"{lease.name}: nobody recorded a self-check of its features, so this machine's "
                f"encoder is not compared with theirs"
            )
        else:
            require_agreement(lease.name, encoder.contract, here, lease.fingerprint)
