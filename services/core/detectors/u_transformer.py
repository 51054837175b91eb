"""The U-shaped transformer that UTRAD reconstructs features with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MERGED: Final = 2
_HIDDEN_RATIO: Final = 2
_POSITION_SPREAD: Final = 0.02


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a :class:`UTransformer`.

    Attributes:
        channels: Of the features.
        rows: Of the features' grid.
        columns: Of the features' grid.
        width: Of a token; a multiple of ``heads``.
        depth: Blocks at each scale on the way down, at the bottom and on the way up.
        heads: Of attention.
        levels: Scales, the bottom included; 1 has no way down and no skip connection.
        skips: Whether the way up sees what the way down saw.
    """

    channels: int
    rows: int
    columns: int
    width: int = 96
    depth: int = 1
    heads: int = 4
    levels: int = 2
    skips: bool = True

    @property
    def step(self) -> int:
        """Both sides of the padded grid are multiples of it."""
        return int(_MERGED**self.levels)

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of the padded grid."""
        return -(-self.rows // self.step) * self.step, -(-self.columns // self.step) * self.step


class UTransformer(nn.Module):
    """Features ``(B, C, h, w)`` to features of the same shape.

    A token is a square of 2 x 2 places. On the way down four neighbouring tokens become one after each scale; on the
    way up one becomes four again, set beside the tokens that left the same scale on the way down (the skip connection,
    which carries what is fine) and mixed with them by one linear layer. Each scale has learned position embeddings of
    its own, added on the way down and on the way up.

    Args:
        shape: How large.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, square = shape.width, _MERGED**2
        self.enter = nn.Linear(square * shape.channels, width)
        self.positions = nn.ParameterList()
        for level in range(shape.levels):
            scale = _MERGED ** (level + 1)
            rows, columns = shape.padded[0] // scale, shape.padded[1] // scale
            self.positions.append(nn.Parameter(_POSITION_SPREAD * torch.randn(1, rows, columns, width)))
        upper = range(shape.levels - 1)
        self.down = nn.ModuleList(_blocks(shape) for _ in upper)
        self.merge = nn.ModuleList(nn.Linear(square * width, width) for _ in upper)
        self.bottom = _blocks(shape)
        self.expand = nn.ModuleList(nn.Linear(width, square * width) for _ in upper)
        self.mix = nn.ModuleList(nn.Linear(2 * width, width) for _ in upper)
        self.up = nn.ModuleList(_blocks(shape) for _ in upper)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, square * shape.channels))

    def forward(self, features: Tensor) -> Tensor:
        """Reconstruct.

        Args:
            features: Shape ``(B, C, h, w)`` with the sizes of :attr:`shape`.

        Returns:
            The same shape.
        """
        missing = self.shape.padded[0] - self.shape.rows, self.shape.padded[1] - self.shape.columns
        x = F.pad(features, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else features
        x = self.enter(merge_squares(x.permute(0, 2, 3, 1)))
        passed = []
        for level, blocks in enumerate(self.down):
            x = blocks(x + self.positions[level])
            passed.append(x)
            x = self.merge[level](merge_squares(x))
        x = self.bottom(x + self.positions[-1])
        for level in reversed(range(len(self.up))):
            x = split_squares(self.expand[level](x))
            seen = passed[level] if self.shape.skips else torch.zeros_like(x)
            x = self.up[level](self.mix[level](torch.cat([x, seen], dim=-1)) + self.positions[level])
        x = split_squares(self.leave(x)).permute(0, 3, 1, 2)
        return x[:, :, : self.shape.rows, : self.shape.columns]


class Block(nn.Module):
    """Attention of every token to every other, then a layer on each; normalised before each of the two."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)
        self.own = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, _HIDDEN_RATIO * width),
            nn.GELU(),
            nn.Linear(_HIDDEN_RATIO * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to tokens ``(B, h, w, width)``."""
        batch, rows, columns, width = x.shape
        parts = self.ask(self.before_attention(x)).view(batch, rows * columns, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        x = x + self.answer(seen.transpose(1, 2).reshape(x.shape))
        return x + cast("Tensor", self.own(x))


def merge_squares(x: Tensor) -> Tensor:
    """Put 2 x 2 places into one: ``(B, h, w, C)`` to ``(B, h / 2, w / 2, 4 C)``, the square's upper row first."""
    batch, rows, columns, channels = x.shape
    x = x.reshape(batch, rows // _MERGED, _MERGED, columns // _MERGED, _MERGED, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows // _MERGED, columns // _MERGED, _MERGED**2 * channels)


def split_squares(x: Tensor) -> Tensor:
    """Undo :func:`merge_squares`."""
    batch, rows, columns, channels = x.shape
    x = x.reshape(batch, rows, columns, _MERGED, _MERGED, channels // _MERGED**2)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(batch, _MERGED * rows, _MERGED * columns, channels // _MERGED**2)


def _blocks(shape: Shape) -> nn.Sequential:
    return nn.Sequential(*(Block(shape.width, shape.heads) for _ in range(shape.depth)))
