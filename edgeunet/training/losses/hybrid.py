"""U-Net 3+'s hybrid loss of pixels, patches and whole maps."""

from __future__ import annotations

from torch import Tensor

from ...errors import ShapeError
from .target import Target, at_target_size, log_probability_of_truth, pixel_count

FOCUS = 2.0
"""Exponent of the focal loss, its paper's choice."""

_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, Wang et al., section 3.2
_WINDOW = 11  # pixels, of the Gaussian of sigma 1.5


def hybrid(logits: Tensor, target: Target) -> Tensor:
    """Focal + MS-SSIM + IoU loss.

    Huang et al., "UNet 3+", ICASSP 2020 (arXiv 2004.08790), section 2.2.

    Raises:
        ShapeError: the target is too small for a single scale of the structural similarity.
    """
    logits = at_target_size(logits, target)
    probability = logits.softmax(1)
    return focal(logits, target) + ms_ssim(probability, target) + soft_iou(probability, target)


def focal(logits: Tensor, target: Target) -> Tensor:
    """Mean of -(1 - p)² log p over the pixels that count; p is the true class's probability.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (arXiv 1708.02002), without the
    class weight alpha.

    Args:
        logits: (N, C, H, W) at the target's size.
    """
    logs = log_probability_of_truth(logits, target)
    return -((1 - logs.exp()) ** FOCUS * logs).sum() / pixel_count(target)


def ms_ssim(probability: Tensor, target: Target) -> Tensor:
    """1 - multi-scale structural similarity of the class planes and the one-hot truth.

    Wang et al., "Multiscale structural similarity for image quality assessment", Asilomar 2003,
    with five scales if the target's sides have 176 pixels or more. Smaller targets use as many
    scales as fit, with the exponents scaled to the same sum. Similarities s, -1..1, enter as
    (1 + s) / 2: negative ones have no powers, and clipping them at 0 would leave no gradient when a
    fresh net needs it most. Ignored pixels are equal on both sides.

    Args:
        probability: (N, C, H, W), softmax of the logits at the target's size.

    Raises:
        ShapeError: a side is shorter than 11 pixels.
    """
    # torchmetrics loads torchvision and transformers if they are there: seconds, for this loss.
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    truth = target.planes(probability.shape[1])
    side = min(truth.shape[2:])
    # torchmetrics needs the window to fit into a (scales - 1)²th of each side.
    fitting = [n for n in range(1, 6) if side // max(1, n - 1) ** 2 >= _WINDOW]
    if not fitting:
        raise ShapeError(
            f"target is {tuple(truth.shape[2:])}; structural similarity needs sides of "
            f"{_WINDOW} pixels or more. Pass a larger --crop, or another --loss."
        )
    betas = _BETAS[: fitting[-1]]
    similarity: Tensor = multiscale_structural_similarity_index_measure(
        probability * target.counted[:, None],
        truth,
        data_range=1.0,
        betas=tuple(beta / sum(betas) for beta in betas),
        normalize="simple",
    )
    return 1 - similarity


def soft_iou(probability: Tensor, target: Target) -> Tensor:
    """1 - mean soft IoU of the classes in the batch.

    Máttyus et al., "DeepRoadMapper", ICCV 2017, equation 2: sum(y p) / sum(y + p - y p), over the
    whole batch, as in `soft_dice`.

    Args:
        probability: (N, C, H, W), softmax of the logits at the target's size.
    """
    truth = target.planes(probability.shape[1])
    probability = probability * target.counted[:, None]
    overlap = (truth * probability).sum((0, 2, 3))
    union = (truth + probability - truth * probability).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    if not bool(present.any()):
        return probability.sum() * 0
    # Select before dividing: 0 / 0 of an absent class would make the gradient NaN.
    return 1 - (overlap[present] / union[present]).mean()
