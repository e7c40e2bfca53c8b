"""How an encoder is tuned: every setting of the training, with its default and where it is from.

Sources. *MAE*: He et al., Masked autoencoders are scalable vision learners, CVPR 2022, and the
commands in FINETUNE.md of facebookresearch/mae. *BEiT*: Bao et al., ICLR 2022. *ours*: chosen here,
with the reason beside it; docs/explanation/finetuning.md argues them at length. The authors of
these encoders tuned on a million photographs; a hospital has thousands of pictures, so epochs and
batch are smaller, and mixup, cutmix and random erasing, which paste pictures into one another, are
left out: a plane of the fetus is told by what lies beside what.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from embedcache.errors import SettingError

#: What is trained: all of it, the head alone, or low-rank adapters and the head.
Tune = Literal["full", "head", "lora"]
#: The name under which results keep each.
ARMS: dict[Tune, str] = {"full": "fine-tune", "head": "tune-head", "lora": "lora"}

#: Peak learning rates that are tried, for a batch of 32. *full*: MAE's 5e-4 (ViT-B) and 1e-3
#: (ViT-L) for 256 pictures are 6e-5 and 1.2e-4 for 32; a factor of three to either side of 1e-4.
#: *lora*: Hu et al., LoRA, ICLR 2022, tune at 2e-4 to 5e-4. *head*: ours; on standardised features
#: the steps of AdamW are in units of a weight, whatever the encoder.
RATES: dict[Tune, tuple[float, ...]] = {
    "full": (3e-5, 1e-4, 3e-4),
    "head": (3e-4, 1e-3, 3e-3),
    "lora": (1e-4, 3e-4, 1e-3),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """What is done to a picture before each time it is learnt from; a zero turns a part off.

    Attributes:
        rotation: largest turn to either side, degrees. 10: ours; a probe is held by hand, and
            more would turn the fan's edge into view.
        scale: largest change of size, as a share. .1: ours; depth settings differ by more, but a
            contract's fit keeps the fan's size.
        shift: largest displacement, as a share of the side. .05: ours.
        mirror: chance of left for right: the probe turned round. .5, as is usual. There is no
            upside down: the skin is always on top.
        gain: largest change of brightness, as a factor's logarithm. .2: ours, ±20 %.
        contrast: largest change of contrast, as the logarithm of the exponent of a grey value, so
            that 0 and 1 stay. .3: ours; a scanner's dynamic range is set by hand.
        speckle: deviation of a multiplicative noise with grains of two pixels; each picture draws
            its own between 0 and this. .1: ours.
        shadow: chance of a shadow, a Gaussian that darkens, as Smistad et al. 2018 lay them
            (doi:10.1117/1.JMI.5.4.044004). .25: ours.
    """

    rotation: float = 10.0
    scale: float = 0.1
    shift: float = 0.05
    mirror: float = 0.5
    gain: float = 0.2
    contrast: float = 0.3
    speckle: float = 0.1
    shadow: float = 0.25

    def __post_init__(self) -> None:
        for name in ("rotation", "scale", "shift", "gain", "contrast", "speckle"):
            _require(f"augment.{name}", getattr(self, name), getattr(self, name) >= 0, "0 or more")
        for name in ("mirror", "shadow"):
            chance = getattr(self, name)
            _require(f"augment.{name}", chance, 0 <= chance <= 1, "a chance, 0 to 1")
        _require("augment.scale", self.scale, self.scale < 1, "less than 1")

    @property
    def off(self) -> bool:
        """Whether nothing is done."""
        return self == NO_AUGMENT


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Every setting of a training but its learning rate and its seed.

    Attributes:
        epochs: passes over the training pictures at most. 30: ours; MAE takes 50 to 100 over 1.3
            million.
        batch: pictures a step. 32: ours; at 1,000 pictures a larger one leaves too few steps.
        micro_batch: pictures that go through the network at once, whose gradients are added up
            to a step's; 0: the batch.
        layer_decay: factor of the learning rate from one transformer block to the one before it,
            of twelve; deeper networks share the same total out (docs/decisions/0100). .75: MAE.
            Convolutional networks have none, as their authors tune them.
        weight_decay: of AdamW (Loshchilov and Hutter, ICLR 2019), on weights that multiply; not
            on norms, biases, tokens and position tables. .05: MAE.
        warmup: share of the steps in which the rate rises from zero; it then falls to zero by half
            a cosine (Loshchilov and Hutter, SGDR, ICLR 2017). .1: MAE's 5 of 50 epochs on ViT-L.
        label_smoothing: share of each label given to all classes alike. 0: a probe has none, and
            smoothed probabilities would lose on log loss and calibration; MAE takes .1.
        class_weights: `balanced` weighs a class by its rarity, as scikit-learn does. `none`: as
            the probe.
        clip: largest norm of a step's gradient; 0: any. 1: ours; a bad batch then costs little.
        precision: of the forward and backward pass: `auto` is bf16 where a GPU has it, else fp16
            with a scaled loss on a GPU, and fp32 elsewhere.
        batch_norm: `tracked` normalises by each batch and moves the running statistics; `frozen`
            keeps these and normalises by them. `head` and `lora` always freeze. Tracked, as
            Kornblith et al., CVPR 2019, tune (docs/decisions/0101).
        patience: epochs without a lower validation loss after which training stops; 0: never.
            8: ours.
        augment: what is done to pictures.
        rank: of LoRA's adapters. 8: Hu et al.
        alpha: by which, over the rank, adapters are multiplied. 16: twice the rank, as usual.
        compile: whether torch.compile makes the network's kernels: the same steps but for rounding,
            and, in a network that has dropout, for what that draws.
    """

    epochs: int = 30
    batch: int = 32
    micro_batch: int = 0
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    clip: float = 1.0
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    batch_norm: Literal["tracked", "frozen"] = "tracked"
    patience: int = 8
    augment: Augment = field(default_factory=Augment)
    rank: int = 8
    alpha: float = 16.0
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "rank"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        for name in ("micro_batch", "weight_decay", "clip", "patience"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        _require("layer_decay", self.layer_decay, 0 < self.layer_decay <= 1, "in (0, 1]")
        for name in ("warmup", "label_smoothing"):
            share = getattr(self, name)
            _require(name, share, 0 <= share < 1, "in [0, 1)")


def _require(name: str, value: float, holds: bool, wanted: str) -> None:
    if not holds:
        raise SettingError(name, str(value), wanted)


NO_AUGMENT = Augment(
    rotation=0, scale=0, shift=0, mirror=0, gain=0, contrast=0, speckle=0, shadow=0
)
