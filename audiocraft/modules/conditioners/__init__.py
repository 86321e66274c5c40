"""How a model is told what to play: texts and clips become vectors of its width."""

from ...data.conditions import ConditioningAttributes as ConditioningAttributes
from ...data.conditions import WavCondition as WavCondition
from .base import BaseConditioner as BaseConditioner
from .base import Condition as Condition
from .base import TextConditioner as TextConditioner
from .base import WavConditioner as WavConditioner
from .base import null_condition as null_condition
from .base import shown_frames as shown_frames
from .dropout import AttributeDropout as AttributeDropout
from .dropout import ClassifierFreeGuidanceDropout as ClassifierFreeGuidanceDropout
from .excerpt import draw_excerpt as draw_excerpt
from .features import EncodecFeatures as EncodecFeatures
from .features import FeatureExtractor as FeatureExtractor
from .features import MertFeatures as MertFeatures
from .features import MusicnnFeatures as MusicnnFeatures
from .fuser import ConditionFuser as ConditionFuser
from .fuser import Fused as Fused
from .mert import build_hubert as build_hubert
from .mert import load_hubert_state as load_hubert_state
from .musicnn import Musicnn as Musicnn
from .provider import ConditionProvider as ConditionProvider
from .style import StyleConditioner as StyleConditioner
from .style_scale import StyleScale as StyleScale
from .text import LUTConditioner as LUTConditioner
from .text import PretrainedText as PretrainedText
from .text import T5Conditioner as T5Conditioner
