"""Before vectors join others: does this machine's encoder give what theirs gave?"""

from __future__ import annotations

from collections.abc import Sequence

from embedcache.encoders.selfcheck import self_check
from embedcache.encoders.spec import Encoder
from embedcache.progress import Progress
from embedcache.store.agreement import require_agreement
from embedcache.store.lease import FeatureLease


def attest(encoders: Sequence[Encoder], leases: Sequence[FeatureLease], progress: Progress) -> None:
    """Check built encoders against what their feature sets say; before `FeatureLease.start_run`.

    A feature set that is new keeps this machine's fingerprint.

    Args:
        encoders: of one network, so that one forward pass of one picture serves them all.
        leases: of each encoder.
        progress: is told where there is nothing to compare with.

    Raises:
        FingerprintDiffersError: naming both machines' versions.
    """
    for encoder, lease, here in zip(encoders, leases, self_check(encoders), strict=True):
        if lease.fresh:
            lease.settle_fingerprint(here)
        elif here is not None and lease.fingerprint is None:
            progress.note(
                f"{lease.name}: nobody recorded a self-check of its features, so this machine's "
                f"encoder is not compared with theirs"
            )
        else:
            require_agreement(lease.name, encoder.contract, here, lease.fingerprint)
