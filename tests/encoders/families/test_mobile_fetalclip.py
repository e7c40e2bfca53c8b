"""MobileFetalCLIP against Apple's MCi0 in plain torch, on the names of the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it
import torch.nn.functional as F  # noqa: N812, TID253  # as torch's own documents call it
from PIL import Image

from embedcache.encoders.families import mobile_fetalclip
from embedcache.encoders.network import NetworkEncoder, encode_together
from embedcache.encoders.resolve import load_encoder
from embedcache.errors import WeightsMismatchError

State = dict[str, torch.Tensor]

#: ImageNet's.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

WIDTHS = (64, 128, 256, 512)
LAYERS = (2, 6, 10, 2)


class Layout:
    """Names and shapes of `visual.trunk.` in the checkpoint (Apple's mobileclip, mci.py)."""

    def __init__(self) -> None:
        self.shape: dict[str, tuple[int, ...]] = {}

    def norm(self, name: str, width: int) -> None:
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            self.shape[f"{name}.{tensor}"] = (width,)
        self.shape[f"{name}.num_batches_tracked"] = ()

    def conv_norm(self, name: str, out: int, into: int, kernel: int) -> None:
        self.shape[f"{name}.conv.weight"] = (out, into, kernel, kernel)
        self.norm(f"{name}.bn", out)

    def squeeze(self, name: str, width: int, inner: int) -> None:
        self.shape |= {
            f"{name}.reduce.weight": (inner, width, 1, 1),
            f"{name}.reduce.bias": (inner,),
            f"{name}.expand.weight": (width, inner, 1, 1),
            f"{name}.expand.bias": (width,),
        }

    def feed_forward(self, name: str, width: int) -> None:
        self.conv_norm(f"{name}.conv", width, 1, 7)
        self.shape |= {
            f"{name}.fc1.weight": (3 * width, width, 1, 1),
            f"{name}.fc1.bias": (3 * width,),
            f"{name}.fc2.weight": (width, 3 * width, 1, 1),
            f"{name}.fc2.bias": (width,),
        }

    def mixer_block(self, name: str, width: int) -> None:
        self.norm(f"{name}.token_mixer.norm.rbr_skip", width)
        self.norm(f"{name}.token_mixer.mixer.rbr_skip", width)
        self.conv_norm(f"{name}.token_mixer.mixer.rbr_conv.0", width, 1, 3)
        self.conv_norm(f"{name}.token_mixer.mixer.rbr_scale", width, 1, 1)
        self.shape[f"{name}.token_mixer.layer_scale"] = (width, 1, 1)
        self.feed_forward(f"{name}.convffn", width)
        self.shape[f"{name}.layer_scale"] = (width, 1, 1)

    def attention_block(self, name: str, width: int) -> None:
        self.norm(f"{name}.norm", width)
        self.shape[f"{name}.token_mixer.qkv.weight"] = (3 * width, width)
        self.shape[f"{name}.token_mixer.proj.weight"] = (width, width)
        self.shape[f"{name}.token_mixer.proj.bias"] = (width,)
        self.feed_forward(f"{name}.convffn", width)
        self.shape[f"{name}.layer_scale_1"] = (width, 1, 1)
        self.shape[f"{name}.layer_scale_2"] = (width, 1, 1)


def layout() -> dict[str, tuple[int, ...]]:
    made = Layout()
    for number, (into, kernel) in enumerate([(3, 3), (1, 3), (64, 1)]):
        made.conv_norm(f"patch_embed.{number}.rbr_conv.0", 64, into, kernel)
        if kernel > 1:
            made.conv_norm(f"patch_embed.{number}.rbr_scale", 64, into, 1)
    made.norm("patch_embed.2.rbr_skip", 64)
    for stage, (width, layers) in enumerate(zip(WIDTHS, LAYERS, strict=True)):
        if stage:
            step = f"network.{2 * stage - 1}.proj"
            made.conv_norm(f"{step}.0.lkb_origin", width, 1, 7)
            made.conv_norm(f"{step}.0.small_conv", width, 1, 3)
            if stage >= 2:
                made.squeeze(f"{step}.0.se", width, width // 4)
            made.norm(f"{step}.1.rbr_skip", width)
            made.conv_norm(f"{step}.1.rbr_conv.0", width, width, 1)
        block = made.attention_block if stage == 3 else made.mixer_block
        for number in range(layers):
            block(f"network.{7 if stage == 3 else 2 * stage}.{number}", width)
    made.shape["network.6.pe.weight"] = (512, 1, 7, 7)
    made.shape["network.6.pe.bias"] = (512,)
    made.squeeze("conv_exp.se", 1024, 64)
    made.conv_norm("conv_exp.rbr_conv.0", 1024, 1, 3)
    made.conv_norm("conv_exp.rbr_scale", 1024, 1, 1)
    made.shape["head.weight"] = (512, 1024)
    made.shape["head.bias"] = (512,)
    return {f"visual.trunk.{name}": shape for name, shape in made.shape.items()}


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(100)
        elif name.endswith("running_var"):
            state[name] = 0.5 + noise.abs()
        elif len(shape) == 1 and name.endswith("weight"):
            state[name] = 1 + noise / 5
        elif "layer_scale" in name:
            state[name] = noise / 3
        else:
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 25
            state[name] = noise / fan_in**0.5
    return state


class MCi0:
    """Apple's network from its state dict; every convolution keeps its branches."""

    def __init__(self, state: State) -> None:
        self.state = {k.removeprefix("visual.trunk."): v for k, v in state.items()}

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        s = self.state
        mean, var = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, s[f"{name}.weight"], s[f"{name}.bias"], eps=1e-5)

    def conv_norm(self, x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        kernel = self.state[f"{name}.conv.weight"]
        groups = x.shape[1] // kernel.shape[1]
        side = kernel.shape[-1] // 2
        return self.norm(F.conv2d(x, kernel, None, stride, side, 1, groups), f"{name}.bn")

    def squeezed(self, x: torch.Tensor, name: str) -> torch.Tensor:
        s = self.state
        if f"{name}.reduce.weight" not in s:
            return x
        y = F.conv2d(
            x.mean((2, 3), keepdim=True), s[f"{name}.reduce.weight"], s[f"{name}.reduce.bias"]
        )
        y = F.conv2d(y.relu(), s[f"{name}.expand.weight"], s[f"{name}.expand.bias"])
        return x * y.sigmoid()

    def one(self, x: torch.Tensor, name: str, stride: int = 1, *, act: bool = True) -> torch.Tensor:
        """MobileOne: the sum of its branches, then squeeze-and-excite, then GELU."""
        total = torch.zeros(())
        for branch in ("rbr_conv.0", "rbr_scale"):
            if f"{name}.{branch}.conv.weight" in self.state:
                total = total + self.conv_norm(x, f"{name}.{branch}", stride)
        if f"{name}.rbr_skip.weight" in self.state:
            total = total + self.norm(x, f"{name}.rbr_skip")
        total = self.squeezed(total, f"{name}.se")
        return F.gelu(total) if act else total

    def feed_forward(self, x: torch.Tensor, name: str) -> torch.Tensor:
        s = self.state
        x = self.conv_norm(x, f"{name}.conv")
        x = F.gelu(F.conv2d(x, s[f"{name}.fc1.weight"], s[f"{name}.fc1.bias"]))
        return F.conv2d(x, s[f"{name}.fc2.weight"], s[f"{name}.fc2.bias"])

    def mixer_block(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mixer, s = f"{name}.token_mixer", self.state
        mixed = self.one(x, f"{mixer}.mixer", act=False) - self.one(x, f"{mixer}.norm", act=False)
        x = x + s[f"{mixer}.layer_scale"] * mixed
        return x + s[f"{name}.layer_scale"] * self.feed_forward(x, f"{name}.convffn")

    def attention(self, x: torch.Tensor, name: str) -> torch.Tensor:
        s, (b, c, h, w) = self.state, x.shape
        heads = c // 32
        qkv = x.flatten(2).transpose(1, 2) @ s[f"{name}.qkv.weight"].T
        q, k, v = qkv.reshape(b, h * w, 3, heads, 32).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2) / 32**0.5).softmax(-1) @ v
        mixed = mixed.transpose(1, 2).reshape(b, h * w, c) @ s[f"{name}.proj.weight"].T
        return (mixed + s[f"{name}.proj.bias"]).transpose(1, 2).reshape(b, c, h, w)

    def attention_block(self, x: torch.Tensor, name: str) -> torch.Tensor:
        s = self.state
        mixed = self.attention(self.norm(x, f"{name}.norm"), f"{name}.token_mixer")
        x = x + s[f"{name}.layer_scale_1"] * mixed
        return x + s[f"{name}.layer_scale_2"] * self.feed_forward(x, f"{name}.convffn")

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        for number, stride in enumerate((2, 2, 1)):
            x = self.one(x, f"patch_embed.{number}", stride)
        for stage, layers in enumerate(LAYERS):
            if stage:
                step = f"network.{2 * stage - 1}.proj"
                x = self.conv_norm(x, f"{step}.0.lkb_origin", 2) + self.conv_norm(
                    x, f"{step}.0.small_conv", 2
                )
                x = self.one(F.gelu(self.squeezed(x, f"{step}.0.se")), f"{step}.1")
            if stage == 3:
                kernel, bias = self.state["network.6.pe.weight"], self.state["network.6.pe.bias"]
                x = x + F.conv2d(x, kernel, bias, padding=3, groups=512)
            for number in range(layers):
                block = self.attention_block if stage == 3 else self.mixer_block
                x = block(x, f"network.{7 if stage == 3 else 2 * stage}.{number}")
        return self.one(x, "conv_exp").mean((2, 3))

    def embedded(self, x: torch.Tensor) -> torch.Tensor:
        return self.pooled(x) @ self.state["head.weight"].T + self.state["head.bias"]


@pytest.fixture(scope="module")
def state() -> State:
    return drawn(layout(), seed=5)


@pytest.fixture(scope="module")
def file(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trainer's checkpoint, its text half shortened: nothing here reads it."""
    text = {"text.ln_final.weight": torch.ones(512), "logit_scale": torch.tensor(4.6)}
    content = {
        "epoch": 12,
        "state_dict": {**state, **text},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "scheduler": {"last_epoch": 12},
        "global_step": 1200,
    }
    path = tmp_path_factory.mktemp("weights") / "mobile_fetal_clip_weights.pt"
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(2).integers(0, 256, (200, 311), dtype=np.uint8))


def tensor_of(
    picture: Image.Image,
    mean: object = MEAN,
    std: object = STD,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    *,
    pad: bool = True,
) -> torch.Tensor:
    side = max(picture.size)
    square = Image.new("RGB", (side, side)) if pad else picture.convert("RGB")
    if pad:
        corner = ((side - picture.width) // 2, (side - picture.height) // 2)
        square.paste(picture.convert("RGB"), corner)
    resized = square.resize((256, 256), resample)
    values = (np.asarray(resized, np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(values.transpose(2, 0, 1).copy())[None]


def difference(found: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.abs(found - expected.numpy()).max() / expected.abs().max())


@pytest.fixture(scope="module")
def features(file: Path, picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The embedding and what is pooled before it, of one forward pass."""
    encoder, before = (load_encoder(f"mobile-fetalclip{v}={file}") for v in ("", "@pre-head"))
    assert isinstance(encoder, NetworkEncoder)
    assert isinstance(before, NetworkEncoder)
    before.module = encoder.module
    embedded, pooled = encode_together([encoder, before], encoder.prepare(picture)[None])
    return embedded, pooled


def test_the_layout_has_the_published_count_of_tensors_and_parameters(state: State) -> None:
    assert len(state) == 784
    learnt = [v for k, v in state.items() if not k.endswith(("mean", "var", "tracked"))]
    assert sum(tensor.numel() for tensor in learnt) == mobile_fetalclip.SPEC.parameters


def test_features_are_those_of_apple_s_network(
    features: tuple[np.ndarray, np.ndarray], state: State, picture: Image.Image
) -> None:
    network = MCi0(state)
    assert difference(features[0], network.embedded(tensor_of(picture))) < 1e-4
    assert difference(features[1], network.pooled(tensor_of(picture))) < 1e-4


def swapped(state: State) -> State:
    first, second = (f"visual.trunk.network.2.{k}.layer_scale" for k in (0, 1))
    return {**state, first: state[second], second: state[first]}


MUTATIONS = {
    "two tensors that change places": lambda s, p: MCi0(swapped(s)).embedded(tensor_of(p)),
    "open_clip's tag: mean 0, std 1": lambda s, p: MCi0(s).embedded(
        tensor_of(p, (0.0,) * 3, (1.0,) * 3)
    ),
    "open_clip's tag: bilinear": lambda s, p: MCi0(s).embedded(
        tensor_of(p, resample=Image.Resampling.BILINEAR)
    ),
    "no black square": lambda s, p: MCi0(s).embedded(tensor_of(p, pad=False)),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_comparison_would_notice(
    mutation: str,
    features: tuple[np.ndarray, np.ndarray],
    state: State,
    picture: Image.Image,
) -> None:
    assert difference(features[0], MUTATIONS[mutation](state, picture)) > 1e-3


def test_untrained_weights_have_the_authors_layout() -> None:
    assert mobile_fetalclip.SPEC.untrained is not None
    drawn_anew = mobile_fetalclip.SPEC.untrained(0)
    assert {key: tuple(tensor.shape) for key, tensor in drawn_anew.items()} == layout()


def test_a_checkpoint_that_holds_more_is_refused(state: State, tmp_path: Path) -> None:
    torch.save({**state, "visual.head.proj.weight": torch.zeros(2, 2)}, tmp_path / "more.pt")
    with pytest.raises(WeightsMismatchError, match=r"visual\.head\.proj\.weight"):
        load_encoder(f"mobile-fetalclip={tmp_path / 'more.pt'}")
