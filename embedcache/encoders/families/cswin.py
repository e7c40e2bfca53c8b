"""CSWin, a vision transformer that attends within stripes, written from its paper.

Dong et al., CSWin Transformer, CVPR 2022, arXiv:2107.00652. Half of a block's heads attend within
vertical stripes of the token map, half within horizontal ones (section 3.2); the last stage attends
over the whole map. To what a stripe attends to, a 3x3 filter by depth of its values is added, which
stops at the stripe's edge (LePE, section 3.3). Between stages a 3x3 convolution halves the map and
doubles the channels (section 3.1). Modules carry the names of the published weights
(microsoft/CSWin-Transformer, MIT), so that a checkpoint loads without a renaming.
"""

from __future__ import annotations

import torch  # noqa: TID253  # nothing here runs without it
from torch import Tensor, nn  # noqa: TID253  # nothing here runs without it
from torch.nn import functional  # noqa: TID253  # nothing here runs without it


class StripeAttention(nn.Module):
    """Attention of every token to those in its stripe.

    Stripes are as high as the map and `split` wide (`upright`), or as wide as the map and `split`
    high; with a split as large as the map there is one.
    """

    def __init__(self, dim: int, heads: int, side: int, split: int, *, upright: bool) -> None:
        super().__init__()
        self.heads = heads
        self.high, self.wide = (side, split) if upright else (split, side)
        self.get_v = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, qkv: Tensor) -> Tensor:
        """(3, b, side, side, dim) -> (b, side, side, dim)."""
        count, side = qkv.shape[1], qkv.shape[2]
        query, key, value = self._stripes(qkv)
        # A stripe's values as a small map of its own: the filter sees zeros beyond its edge.
        map_ = value.transpose(1, 2).reshape(len(value), -1, self.high, self.wide)
        lepe = self.get_v(map_).flatten(2).transpose(1, 2)
        attended = functional.scaled_dot_product_attention(
            self._by_head(query), self._by_head(key), self._by_head(value)
        )
        joined = attended.transpose(1, 2).flatten(2) + lepe
        rows, columns = side // self.high, side // self.wide
        tiles = joined.reshape(count, rows, columns, self.high, self.wide, -1)
        output: Tensor = tiles.transpose(2, 3).reshape(count, side, side, -1)
        return output

    def _stripes(self, tokens: Tensor) -> Tensor:
        """(3, b, side, side, dim) -> (3, b * stripes, tokens of a stripe, dim)."""
        three, count, side, _, dim = tokens.shape
        rows, columns = side // self.high, side // self.wide
        tiles = tokens.reshape(three, count, rows, self.high, columns, self.wide, dim)
        return tiles.transpose(3, 4).reshape(three, count * rows * columns, -1, dim)

    def _by_head(self, tokens: Tensor) -> Tensor:
        count, length, _ = tokens.shape
        return tokens.reshape(count, length, self.heads, -1).transpose(1, 2)


class Mlp(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(…, dim) -> (…, dim)."""
        output: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return output


class Block(nn.Module):
    """One block: stripes of both directions side by side, or the whole map at once."""

    def __init__(self, dim: int, heads: int, side: int, split: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        directions = (True,) if split == side else (True, False)
        share = len(directions)
        self.attns = nn.ModuleList(
            StripeAttention(dim // share, heads // share, side, split, upright=upright)
            for upright in directions
        )
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, side, side, dim) -> the same."""
        qkv = self.qkv(self.norm1(tokens)).reshape(*tokens.shape[:3], 3, -1).permute(3, 0, 1, 2, 4)
        shares = qkv.chunk(len(self.attns), dim=4)
        halves = [attend(share) for attend, share in zip(self.attns, shares, strict=True)]
        tokens = tokens + self.proj(torch.cat(halves, dim=3))
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output


class Merge(nn.Module):
    """Halve the map by a 3x3 convolution, then normalise each token."""

    def __init__(self, dim: int, wider: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, wider, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(wider)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, side, side, dim) -> (b, side / 2, side / 2, wider)."""
        halved = self.conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        output: Tensor = self.norm(halved)
        return output
