"""Arbitrary-scale image super-resolution with LIIF, as an extension of BasicSR.

The route of a picture, and the module that owns each step::

    files, LMDB --data/--> lq (B, 3, h, w), coord (B, Q, 2), cell (B, Q, 2), gt (B, Q, 3)
    lq ---------archs/---> feat = net.encode(lq)                 (B, C, h, w)
    feat -------archs/---> rgb  = net.query(feat, coord, cell)   (B, Q, 3)
    net, lq ----render.py> image (B, 3, H, W) of any size
    image, gt --metrics/-> PSNR, SSIM under a frozen protocol
    all of it --models/--> trained and validated by BasicSR's own loop

    photo -----upscaling.py> photo of any size, streamed to disk (`liif upscale`, ``liif_plugin.upscale``)

Layers; an import may only point to the left::

    errors < compat < coords, resize, precision < {archs | data | metrics | pictures | memory} < render < models
        < convert, pretrained < upscaling, compare < bench, api < cli

``import liif_plugin`` loads nothing else until ``load``, ``upscale`` or ``ContinuousImage`` is asked for.
``import liif_plugin.register`` puts every name of ours into BasicSR's registries.
"""

__version__ = "0.1.0"
__all__ = ["ContinuousImage", "load", "upscale"]


def __getattr__(name: str):
    if name in __all__:
        from .inference import api

        return getattr(api, name)
    raise AttributeError(f"module 'liif_plugin' has no attribute '{name}'")
