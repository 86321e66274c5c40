"""How large the transformer is that stands between the listener and the bottleneck."""

from dataclasses import dataclass

from ..transformer import StreamingTransformer


@dataclass(frozen=True)
class StyleScale:
    """Sizes of the style transformer; the feed-forward layers are four times as wide."""

    d_model: int
    num_heads: int = 8
    num_layers: int = 0  # 0: no transformer, and no positions

    def build(self) -> StreamingTransformer | None:
        """The transformer; it adds sinusoidal positions to what it reads."""
        if not self.num_layers:
            return None
        return StreamingTransformer(
            d_model=self.d_model,
            num_heads=self.num_heads,
            num_layers=self.num_layers,
            dim_feedforward=4 * self.d_model,
            dropout=0.0,
            norm_first=True,
            bias_ff=False,
            bias_attn=False,
            causal=False,
            activation="gelu",
            memory_efficient=True,
        )


SCALES = {
    "none": StyleScale(512),
    "xsmall": StyleScale(256, num_heads=8, num_layers=4),
    "default": StyleScale(512, num_heads=8, num_layers=8),
    "large": StyleScale(1024, num_heads=16, num_layers=24),
}


def get_style_scale(scale: str | StyleScale) -> StyleScale:
    """A scale by name, or as it is.

    Raises:
        ValueError: An unknown name.
    """
    if isinstance(scale, StyleScale):
        return scale
    if scale not in SCALES:
        raise ValueError(f"transformer_scale is {scale!r}. Choose one of: {', '.join(SCALES)}.")
    return SCALES[scale]
