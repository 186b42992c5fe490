"""From a bundle to what other programs run: one file for each target, see `TARGETS`."""

from .base import Deployment, Target
from .deploy import TARGETS, deploy
from .deployed import open_deployed
from .options import DeployOptions

__all__ = ["TARGETS", "DeployOptions", "Deployment", "Target", "deploy", "open_deployed"]
