"""The nets and their checkpoints. Importing this package registers all variants."""

from ..bundle.card import Card
from ..catalogue import list_weights
from ..data.preparation import Preparation
from .base import NetOutput, SegmentationNet
from .checkpoints import Checkpoint, save_checkpoint
from .eff_unet import EffUNet
from .mobile_unet import MobileUNet
from .registry import create_model, list_models, model_class, register_model
from .resunet import ResUNet
from .unet import UNet
from .unet3p import UNet3P
from .unetpp import UNetPP

__all__ = [
    "Card",
    "Checkpoint",
    "EffUNet",
    "MobileUNet",
    "NetOutput",
    "Preparation",
    "ResUNet",
    "SegmentationNet",
    "UNet",
    "UNet3P",
    "UNetPP",
    "create_model",
    "list_models",
    "list_weights",
    "model_class",
    "register_model",
    "save_checkpoint",
]
