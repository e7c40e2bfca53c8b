"""Which parameter learns how fast."""

from __future__ import annotations

import pytest
import torch  # noqa: TID253  # what is tested is made of it
import training

from embedcache.encoders.families import fetalclip, mofo
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.finetuning import network as networks
from embedcache.finetuning.groups import groups, layers, rate_scale, scales
from embedcache.finetuning.recipe import Recipe


def test_a_transformer_of_twelve_blocks_learns_as_timm_groups_it() -> None:
    repair_torchvision()
    from timm.optim import param_groups_layer_decay

    settings = {"embed_dim": 12, "num_heads": 1, "img_size": 32}
    model = create("vit_tiny_patch16_224", num_classes=5, **settings)
    expected = {
        id(value): group["lr_scale"]
        for group in param_groups_layer_decay(model, layer_decay=0.75)
        for value in group["params"]
    }
    found = scales(model, 0.75)
    # A classifier of timm's shares the last norm's layer; ours is a part of its own, at 1.
    assert found == pytest.approx(
        {name: expected[id(value)] for name, value in model.named_parameters()}
    )


def test_a_network_of_more_blocks_shares_the_same_decay_out() -> None:
    model = create("vit_tiny_patch16_224", embed_dim=12, num_heads=1, img_size=32, depth=24)
    assert scales(model, 0.75)["blocks.0.attn.qkv.weight"] == pytest.approx(0.75**12)
    assert scales(model, 0.75)["blocks.23.attn.qkv.weight"] == pytest.approx(0.75**0.5)


def test_a_convolutional_network_has_no_decay() -> None:
    assert scales(create("resnet18"), 0.75) == {}
    assert scales(create("tf_efficientnet_lite0"), 0.75) == {}


def test_mofos_blocks_are_layers_in_their_order() -> None:
    layer, blocks = layers(mofo.network(mofo.Shape(dim=8, depth=(1, 1, 2, 1), heads=(2, 2, 2, 4))))
    assert blocks == 5
    assert layer["stem.0.weight"] == layer["merge0.norm.weight"] == 0
    assert layer["stage1.0.attns.0.get_v.weight"] == 1
    assert layer["merge1.conv.weight"] == 1
    assert [layer[f"stage3.{block}.qkv.weight"] for block in (0, 1)] == [3, 4]
    assert layer["stage4.0.mlp.fc2.bias"] == 5


def test_clips_image_half_has_its_norm_behind_its_blocks() -> None:
    size = fetalclip.ClipSize(
        image=28,
        patch=14,
        width=64,
        layers=3,
        dim=8,
        context=4,
        vocabulary=9,
        text_width=16,
        text_layers=1,
        text_heads=1,
    )
    spec = fetalclip.specify(size)
    assert spec.untrained is not None
    layer, blocks = layers(spec.build(spec.untrained(0)))
    assert blocks == 3
    assert layer["conv1.weight"] == layer["positional_embedding"] == layer["ln_pre.weight"] == 0
    assert layer["transformer.resblocks.2.attn.in_proj_weight"] == 3
    assert layer["ln_post.weight"] == 4


def test_norms_biases_tokens_and_positions_do_not_decay() -> None:
    network = networks.build(training.transformer(), "full", Recipe(), 3, "cpu")
    free = {
        name
        for group in groups(network, Recipe())
        if not group.weight_decay
        for name in group.names
    }
    ends = ("bias", "cls_token", "pos_embed", "norm.weight", "norm1.weight", "norm2.weight")
    parameters = {name for name, _ in network.named_parameters()}
    assert free == {name for name in parameters if name.endswith(ends)}


def test_the_rate_rises_and_falls_as_timms_schedule_does() -> None:
    repair_torchvision()
    from timm.scheduler import CosineLRScheduler

    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = CosineLRScheduler(optimiser, t_initial=40, t_in_epochs=False)
    for step in range(40):
        theirs.step_update(step)
        expected = optimiser.param_groups[0]["lr"]
        assert rate_scale(step + 5, steps=45, warmup=5) == pytest.approx(expected, abs=1e-12)
    assert [rate_scale(step, steps=45, warmup=5) for step in range(5)] == [0.2, 0.4, 0.6, 0.8, 1.0]
