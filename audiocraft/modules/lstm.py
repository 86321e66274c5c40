"""LSTM layer of the codec."""

from torch import Tensor, nn


class StreamableLSTM(nn.Module):
    """LSTM over time with a skip connection, `[B, C, T]` to `[B, C, T]`.

    Args:
        dimension: Channels C, and width of the hidden state.
        num_layers: Layers of the LSTM.
        skip: Whether the input is added to the output.
    """

    def __init__(self, dimension: int, num_layers: int = 2, skip: bool = True):
        super().__init__()
        self.skip = skip
        self.lstm = nn.LSTM(dimension, dimension, num_layers)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.permute(2, 0, 1)  # [T, B, C]
        output, _ = self.lstm(steps)
        if self.skip:
            output = output + steps
        return output.permute(1, 2, 0)
