"""FetalCLIP against CLIP's published mathematics in plain torch, and against open_clip itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it
import torch.nn.functional as F  # noqa: N812, TID253  # as torch's own documents call it
from PIL import Image

from embedcache.encoders.families import fetalclip
from embedcache.encoders.families.clip import ClipSize
from embedcache.encoders.network import NetworkEncoder, encode_together
from embedcache.encoders.resolve import load_encoder, resolve
from embedcache.encoders.text import tokenise
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.errors import NoTextError, PromptTooLongError, WeightsMismatchError

State = dict[str, torch.Tensor]

#: The authors' layout with fewer and narrower layers.
NARROW = ClipSize(
    image=224,
    patch=56,
    width=128,
    layers=2,
    dim=48,
    context=117,
    vocabulary=49408,
    text_width=64,
    text_layers=2,
    text_heads=2,
)
#: CLIP's own constants (openai/CLIP, clip.py).
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PROMPTS = ["An ultrasound image of the fetal brain.", "femur", "the maternal cervix, sagittal view"]


def transformer_layout(prefix: str, width: int, layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        block = f"{prefix}transformer.resblocks.{layer}."
        shapes |= {f"{block}ln_{k}.{w}": (width,) for k in (1, 2) for w in ("weight", "bias")}
        shapes |= {
            f"{block}attn.in_proj_weight": (3 * width, width),
            f"{block}attn.in_proj_bias": (3 * width,),
            f"{block}attn.out_proj.weight": (width, width),
            f"{block}attn.out_proj.bias": (width,),
            f"{block}mlp.c_fc.weight": (4 * width, width),
            f"{block}mlp.c_fc.bias": (4 * width,),
            f"{block}mlp.c_proj.weight": (width, 4 * width),
            f"{block}mlp.c_proj.bias": (width,),
        }
    return shapes


def layout(size: ClipSize) -> dict[str, tuple[int, ...]]:
    """Names and shapes of FetalCLIP_weights.pt, which is a flat dict of float32."""
    tokens = (size.image // size.patch) ** 2 + 1
    norms = {
        f"visual.{name}.{w}": (size.width,)
        for name in ("ln_pre", "ln_post")
        for w in ("weight", "bias")
    }
    return {
        "positional_embedding": (size.context, size.text_width),
        "text_projection": (size.text_width, size.dim),
        "logit_scale": (),
        "visual.class_embedding": (size.width,),
        "visual.positional_embedding": (tokens, size.width),
        "visual.proj": (size.width, size.dim),
        "visual.conv1.weight": (size.width, 3, size.patch, size.patch),
        **norms,
        **transformer_layout("visual.", size.width, size.layers),
        **transformer_layout("", size.text_width, size.text_layers),
        "token_embedding.weight": (size.vocabulary, size.text_width),
        "ln_final.weight": (size.text_width,),
        "ln_final.bias": (size.text_width,),
    }


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    """Random tensors whose layers neither vanish nor blow up."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 4
        state[name] = noise / math.sqrt(fan_in)
        if ".ln_" in name and name.endswith("weight"):
            state[name] = 1 + noise / 4
    state["logit_scale"] = torch.tensor(math.log(50.0))
    return state


@pytest.fixture(scope="module")
def state() -> State:
    return drawn(layout(NARROW), seed=7)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetalclip, "SPEC", fetalclip.specify(NARROW))


@pytest.fixture(scope="module")
def file(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "FetalCLIP_weights.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    landscape = Image.fromarray(rng.integers(0, 256, (211, 301), dtype=np.uint8))
    portrait = Image.fromarray(rng.integers(0, 256, (260, 190, 3), dtype=np.uint8))
    return [landscape, portrait]


def squared(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    square = Image.new("RGB", (side, side))
    square.paste(
        picture.convert("RGB"), ((side - picture.width) // 2, (side - picture.height) // 2)
    )
    return square


def tensor_of(picture: Image.Image, mean: object = MEAN, std: object = STD) -> torch.Tensor:
    resized = picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    values = (np.asarray(resized, np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(values.transpose(2, 0, 1).copy())[None]


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


def blocks(
    state: State,
    x: torch.Tensor,
    prefix: str,
    heads: int,
    mask: torch.Tensor | None = None,
    activation: Callable[[torch.Tensor], torch.Tensor] = F.gelu,
) -> torch.Tensor:
    """Pre-norm transformer: x + attention(ln_1(x)), then x + mlp(ln_2(x)). (n, tokens, width)."""
    width = x.shape[-1]
    layers = {int(k.split(".resblocks.")[1].split(".")[0]) for k in state if k.startswith(prefix)}
    for layer in sorted(layers):
        own = {
            k.removeprefix(f"{prefix}{layer}."): v
            for k, v in state.items()
            if k.startswith(f"{prefix}{layer}.")
        }
        y = F.layer_norm(x, (width,), own["ln_1.weight"], own["ln_1.bias"])
        qkv = y @ own["attn.in_proj_weight"].T + own["attn.in_proj_bias"]
        q, k, v = (
            t.unflatten(-1, (heads, width // heads)).transpose(1, 2) for t in qkv.chunk(3, -1)
        )
        score = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
        if mask is not None:
            score = score + mask
        mixed = (score.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + mixed @ own["attn.out_proj.weight"].T + own["attn.out_proj.bias"]
        y = F.layer_norm(x, (width,), own["ln_2.weight"], own["ln_2.bias"])
        y = activation(y @ own["mlp.c_fc.weight"].T + own["mlp.c_fc.bias"])
        x = x + y @ own["mlp.c_proj.weight"].T + own["mlp.c_proj.bias"]
    return x


def class_token(
    state: State,
    picture: torch.Tensor,
    activation: Callable[[torch.Tensor], torch.Tensor] = F.gelu,
) -> torch.Tensor:
    width = state["visual.class_embedding"].numel()
    kernel = state["visual.conv1.weight"]
    patches = F.conv2d(picture, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    first = state["visual.class_embedding"].expand(len(picture), 1, width)
    x = torch.cat([first, patches], 1) + state["visual.positional_embedding"]
    x = F.layer_norm(x, (width,), state["visual.ln_pre.weight"], state["visual.ln_pre.bias"])
    x = blocks(state, x, "visual.transformer.resblocks.", width // 64, activation=activation)
    return F.layer_norm(
        x[:, 0], (width,), state["visual.ln_post.weight"], state["visual.ln_post.bias"]
    )


def reference(state: State, pictures: list[torch.Tensor], **how: object) -> np.ndarray:
    token = class_token(state, torch.cat(pictures), **how)
    return (token @ state["visual.proj"]).numpy()


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def encoded(reference_: str, pictures: list[Image.Image]) -> np.ndarray:
    encoder = load_encoder(reference_)
    return encoder.encode(np.stack([encoder.prepare(picture) for picture in pictures]))


@pytest.mark.usefixtures("narrow")
def test_features_are_those_of_the_published_mathematics(
    file: Path, state: State, pictures: list[Image.Image]
) -> None:
    expected = reference(state, [tensor_of(squared(picture)) for picture in pictures])
    assert difference(encoded(f"fetalclip={file}", pictures), expected) < 1e-4


def swapped(state: State) -> State:
    first, second = (f"visual.transformer.resblocks.{k}.attn.in_proj_weight" for k in (0, 1))
    return {**state, first: state[second], second: state[first]}


MUTATIONS: dict[str, Callable[[State, list[Image.Image]], np.ndarray]] = {
    "QuickGELU for GELU": lambda state, pictures: reference(
        state, [tensor_of(squared(p)) for p in pictures], activation=quick_gelu
    ),
    "two layers that change places": lambda state, pictures: reference(
        swapped(state), [tensor_of(squared(p)) for p in pictures]
    ),
    "another mean and std": lambda state, pictures: reference(
        state, [tensor_of(squared(p), (0.5,) * 3, (0.5,) * 3) for p in pictures]
    ),
    "no black square": lambda state, pictures: reference(state, [tensor_of(p) for p in pictures]),
}


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_comparison_would_notice(
    mutation: str, file: Path, state: State, pictures: list[Image.Image]
) -> None:
    wrong = MUTATIONS[mutation](state, pictures)
    assert difference(encoded(f"fetalclip={file}", pictures), wrong) > 1e-3


@pytest.mark.usefixtures("narrow")
def test_the_vector_before_the_projection_shares_the_forward_pass(
    file: Path, state: State, pictures: list[Image.Image]
) -> None:
    both = [load_encoder(f"fetalclip{variant}={file}") for variant in ("", "@pre-proj")]
    default, before = both
    assert isinstance(default, NetworkEncoder)
    assert isinstance(before, NetworkEncoder)
    before.module = default.module
    batch = np.stack([default.prepare(picture) for picture in pictures])
    projected, token = encode_together([default, before], batch)
    expected = class_token(state, torch.cat([tensor_of(squared(p)) for p in pictures])).numpy()
    assert difference(token, expected) < 1e-4
    assert difference(token @ state["visual.proj"].numpy(), projected) < 1e-5


@pytest.mark.usefixtures("narrow")
def test_variants_prepare_pictures_as_the_other_scripts_of_the_authors(
    file: Path, state: State, pictures: list[Image.Image]
) -> None:
    import cv2

    def by_opencv(picture: Image.Image) -> Image.Image:
        pixels = np.asarray(squared(picture))
        # Without Intel's library, which rounds in another way on Intel's machines alone.
        cv2.ipp.setUseIPP(False)
        resized = cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_CUBIC)
        cv2.ipp.setUseIPP(True)
        return Image.fromarray(resized)

    def cropped(picture: Image.Image) -> Image.Image:
        width, height = picture.size
        short = min(width, height)
        size = (int(224 * width / short), int(224 * height / short))
        resized = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
        return resized.crop((left, top, left + 224, top + 224))

    for variant, prepared in (("cv2", by_opencv), ("centre-crop", cropped)):
        expected = reference(state, [tensor_of(prepared(picture)) for picture in pictures])
        found = encoded(f"fetalclip@{variant}={file}", pictures)
        assert difference(found, expected) < 1e-4, variant


def open_clip_features(size: ClipSize, state: State, pictures: list[Image.Image]) -> np.ndarray:
    """`encode_image` and the evaluation transform of open_clip, after the black square."""
    repair_torchvision()
    from open_clip import CLIP
    from open_clip.transform import image_transform

    vision = {"image_size": size.image, "patch_size": size.patch, "width": size.width}
    text = {"context_length": size.context, "width": size.text_width, "heads": size.text_heads}
    model = CLIP(
        embed_dim=size.dim,
        vision_cfg={**vision, "layers": size.layers},
        text_cfg={**text, "layers": size.text_layers},
    )
    model.load_state_dict(state, strict=True)
    transform = image_transform(224, is_train=False)
    with torch.inference_mode():
        batch = torch.stack([transform(squared(picture)) for picture in pictures])
        return model.eval().encode_image(batch).numpy()


@pytest.mark.usefixtures("narrow")
def test_features_are_open_clip_s_after_square_padding(
    file: Path, state: State, pictures: list[Image.Image]
) -> None:
    expected = open_clip_features(NARROW, state, pictures)
    assert difference(encoded(f"fetalclip={file}", pictures), expected) < 1e-5


@pytest.mark.slow
def test_in_full_size_the_file_has_its_published_size_and_gives_open_clip_s_features(
    tmp_path: Path, pictures: list[Image.Image]
) -> None:
    state = drawn(layout(fetalclip.SIZE), seed=1)
    assert sum(tensor.numel() for tensor in state.values()) == 427_647_233
    torch.save(state, tmp_path / "FetalCLIP_weights.pt")
    published = fetalclip.SPEC.sources[0].size
    assert abs((tmp_path / "FetalCLIP_weights.pt").stat().st_size - published) < 100_000
    found = encoded(f"fetalclip={tmp_path / 'FetalCLIP_weights.pt'}", pictures)
    assert found.shape == (2, 768)
    assert difference(found, open_clip_features(fetalclip.SIZE, state, pictures)) < 1e-4


@pytest.mark.usefixtures("narrow")
def test_wrapped_and_parallel_checkpoints_are_the_same_encoder(
    file: Path, state: State, pictures: list[Image.Image], tmp_path: Path
) -> None:
    wrapped = {"epoch": 3, "state_dict": {f"module.{key}": v for key, v in state.items()}}
    torch.save(wrapped, tmp_path / "wrapped.pt")
    one = encoded(f"fetalclip={file}", pictures)
    assert np.array_equal(one, encoded(f"fetalclip={tmp_path / 'wrapped.pt'}", pictures))


@pytest.mark.usefixtures("narrow")
def test_another_clip_of_the_same_image_half_is_refused(state: State, tmp_path: Path) -> None:
    short = {**state, "positional_embedding": state["positional_embedding"][:77]}
    torch.save(short, tmp_path / "clip.pt")
    with pytest.raises(WeightsMismatchError, match=r"positional_embedding \(77, 64\) for \(117"):
        load_encoder(f"fetalclip={tmp_path / 'clip.pt'}")


@pytest.mark.usefixtures("narrow")
def test_a_tensor_left_out_of_either_half_is_missed(state: State, tmp_path: Path) -> None:
    for key in ("visual.ln_post.bias", "ln_final.bias"):
        torch.save({k: v for k, v in state.items() if k != key}, tmp_path / "less.pt")
        with pytest.raises(WeightsMismatchError, match=key.replace(".", r"\.")):
            load_encoder(f"fetalclip={tmp_path / 'less.pt'}")


@pytest.mark.usefixtures("narrow")
def test_prompts_are_embedded_as_the_published_mathematics_says(file: Path, state: State) -> None:
    text = resolve(f"fetalclip={file}").build_text()
    token = torch.from_numpy(tokenise(PROMPTS, 117))
    x = state["token_embedding.weight"][token] + state["positional_embedding"]
    mask = torch.full((117, 117), -torch.inf).triu(1)
    x = blocks(state, x, "transformer.resblocks.", NARROW.text_heads, mask)
    x = F.layer_norm(x, (64,), state["ln_final.weight"], state["ln_final.bias"])
    # The end of text has the highest number of all tokens.
    expected = x[torch.arange(len(x)), token.argmax(1)] @ state["text_projection"]
    assert difference(text.encode_text(PROMPTS), expected.numpy()) < 1e-4
    assert text.scale == pytest.approx(50.0)


def test_tokens_are_clip_s() -> None:
    # "a photo of a cat" as in many a tutorial of CLIP.
    expected = [49406, 320, 1125, 539, 320, 2368, 49407, 0, 0]
    assert tokenise(["a photo of a Cat"], 9).tolist() == [expected]


@pytest.mark.usefixtures("narrow")
def test_a_prompt_that_would_be_cut_off_is_refused(file: Path) -> None:
    with pytest.raises(PromptTooLongError, match="122 tokens of 117"):
        resolve(f"fetalclip={file}").build_text().encode_text(["brain " * 120])


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("fetalclip@pre-proj=random", "this is cls-layer-norm"),
        ("mobile-fetalclip=random", "attention mask"),
        ("biomedclip=random", "vocabulary"),
        ("pixels", "no image-text model"),
    ],
)
def test_an_encoder_whose_images_no_prompt_meets_says_why(asked: str, reason: str) -> None:
    with pytest.raises(NoTextError, match=reason):
        resolve(asked).build_text()


@pytest.mark.usefixtures("narrow")
def test_untrained_weights_have_the_authors_layout_and_follow_the_seed() -> None:
    specified = fetalclip.specify(replace(NARROW, layers=1, text_layers=1, text_width=32))
    assert specified.untrained is not None
    first, again, other = (specified.untrained(seed) for seed in (0, 0, 1))
    shapes = {key: tuple(tensor.shape) for key, tensor in first.items()}
    assert shapes == layout(replace(NARROW, layers=1, text_layers=1, text_width=32))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["visual.proj"], other["visual.proj"])
