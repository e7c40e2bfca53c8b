"""torch's `MultiheadAttention` with its projections as layers, and back."""

from __future__ import annotations

from typing import TypeGuard

from torch import Tensor, nn  # noqa: TID253  # nothing here runs without it
from torch.nn import functional  # noqa: TID253  # nothing here runs without it


def can_open(module: nn.Module) -> TypeGuard[nn.MultiheadAttention]:
    """Whether it is an attention of one width that sees pictures first and draws nothing."""
    return (
        isinstance(module, nn.MultiheadAttention)
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
        and module.batch_first
        and module.dropout == 0
    )


class OpenAttention(nn.Module):
    """Self-attention whose projections are two linear layers, with the weights of a closed one."""

    def __init__(self, closed: nn.MultiheadAttention) -> None:
        super().__init__()
        width = closed.embed_dim
        self.heads = closed.num_heads
        bias = closed.in_proj_bias is not None
        self.in_proj = nn.Linear(width, 3 * width, bias=bias, device="meta")
        self.in_proj.weight = closed.in_proj_weight
        self.out_proj = nn.Linear(width, width, bias=bias, device="meta")
        self.out_proj.weight = closed.out_proj.weight
        if bias:
            self.in_proj.bias = closed.in_proj_bias
            self.out_proj.bias = closed.out_proj.bias

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """(b, length, width) -> the same; weights of the attention are not given."""
        if query is not key or query is not value or need_weights:
            raise ValueError("an opened attention is of tokens to themselves, and gives no weights")
        count, length, width = query.shape
        qkv = self.in_proj(query).reshape(count, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        return self.out_proj(attended.transpose(1, 2).reshape(count, length, width)), None

    def closed(self) -> nn.MultiheadAttention:
        """Torch's own again, with the weights as they now are."""
        bias = self.in_proj.bias is not None
        closed = nn.MultiheadAttention(
            self.in_proj.in_features, self.heads, bias=bias, batch_first=True, device="meta"
        )
        closed.in_proj_weight = nn.Parameter(self.in_proj.weight.detach())
        closed.out_proj.weight = self.out_proj.weight
        if bias:
            closed.in_proj_bias = nn.Parameter(self.in_proj.bias.detach())
            closed.out_proj.bias = self.out_proj.bias
        return closed
