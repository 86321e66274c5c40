"""Neural network modules: convolutions, SEANet, transformer; conditioners in a package below."""

from .conv import NormConv1d as NormConv1d
from .conv import NormConvTranspose1d as NormConvTranspose1d
from .conv import StreamableConv1d as StreamableConv1d
from .conv import StreamableConvTranspose1d as StreamableConvTranspose1d
from .conv import pad1d as pad1d
from .conv import pad_for_conv1d as pad_for_conv1d
from .conv import unpad1d as unpad1d
from .lstm import StreamableLSTM as StreamableLSTM
from .seanet import SEANetDecoder as SEANetDecoder
from .seanet import SEANetEncoder as SEANetEncoder
from .transformer import StreamingTransformer as StreamingTransformer
