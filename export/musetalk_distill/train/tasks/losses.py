"""The loss functions of training.

| name | for | what |
| --- | --- | --- |
| ``output`` | student | mean absolute difference of its latents from the teacher's |
| ``truth`` | student, teacher | mean absolute difference of its latents from the true ones (MuseTalk's latent loss) |
| ``features`` | student | relative squared difference from the teacher's features, block by block |
| ``pixels`` | student, teacher | mean absolute difference of the decoded mouths (MuseTalk's pixel loss) |
| ``pixels`` | decoder | mean absolute difference from the big decoder's images, the mouths counted once more |
| ``edges`` | decoder | mean absolute difference of the images' gradients, at full, half and quarter size |
| ``features`` | decoder | relative squared difference of the frozen VAE encoder's features of the two images |
| ``temporal`` | decoder | mean absolute difference of the images' changes from one frame to the next |
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, l1_loss, mse_loss

from musetalk_distill.train.tasks.latent_decoder import mouth

SCALES = 3  # sizes at which gradients are compared: full, half and quarter
ENCODER_BLOCKS = 2  # of the VAE's encoder, from the outermost: edges, textures, small shapes


def absolute(found: Tensor, expected: Tensor) -> Tensor:
    """The mean absolute difference, in FP32."""
    return l1_loss(found.float(), expected.float())


def relative(found: Sequence[Tensor], expected: Sequence[Tensor]) -> Tensor:
    """The mean over pairs of features of: mean squared difference over the expected one's mean square.

    BK-SDM (Kim et al., 2023, equation 3) sums the squared differences themselves, so that blocks with large
    activations count most; here every block counts the same.
    """
    errors = [
        mse_loss(one.float(), other.float()) / other.float().square().mean().clamp_min(1e-6)
        for one, other in zip(found, expected, strict=True)
    ]
    total: Tensor = sum(errors[1:], start=errors[0]) / len(errors)
    return total


def mouth_twice(found: Tensor, expected: Tensor) -> Tensor:
    """The mean absolute difference of ``[N, 3, I, I]`` images plus that of their lower halves."""
    return absolute(found, expected) + absolute(mouth(found), mouth(expected))


def edges(found: Tensor, expected: Tensor) -> Tensor:
    """The mean absolute difference of horizontal and vertical gradients of ``[N, 3, I, I]``, over ``SCALES`` sizes."""
    difference = found.float() - expected.float()
    total = difference.new_zeros(())
    for scale in range(SCALES):
        x = difference if scale == 0 else avg_pool2d(difference, 2**scale)
        total = total + x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()
    return total / SCALES


def temporal(found: Tensor, expected: Tensor) -> Tensor:
    """The mean absolute difference of the changes from frame to frame: ``[2 * N, 3, I, I]``, pairs of neighbours.

    It is what flickers: an error that both frames have does not count.
    """
    error = found.float() - expected.float()
    return (error[1::2] - error[::2]).abs().mean()


class EncoderFeatures(nn.Module):
    """``images [N, 3, I, I]`` around [0, 1] -> what the first blocks of a frozen VAE encoder make of them."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.conv_in, self.blocks = encoder.conv_in, nn.ModuleList(list(encoder.down_blocks)[:ENCODER_BLOCKS])

    def forward(self, images: Tensor) -> list[Tensor]:
        x, features = self.conv_in(images * 2 - 1), []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features
