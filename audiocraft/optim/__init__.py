"""Optimizers, learning rate schedules and weight averages."""

from .dadam import DAdaptAdam as DAdaptAdam
from .ema import ModuleDictEMA as ModuleDictEMA
from .schedules import CosineLRScheduler as CosineLRScheduler
from .schedules import InverseSquareRootLRScheduler as InverseSquareRootLRScheduler
from .schedules import LinearWarmupLRScheduler as LinearWarmupLRScheduler
from .schedules import PolynomialDecayLRScheduler as PolynomialDecayLRScheduler
