"""Arbitrary-scale image super-resolution with LIIF, as an extension of BasicSR.

The Python API::

    load(model)                 a network with its weights: net.encode(lq), net.query(feat, coord, cell)
    upscale(picture, scale)     a picture (NumPy, PIL or torch) at any size
    ContinuousImage(picture)    a picture that is encoded once and asked for colours at any positions

They raise ``liif_plugin.errors.UserError``, a ValueError, for a mistake of the caller.

The route of a picture in training, and the package that owns each step::

    files, LMDB  -- data/ ------------------> lq (B, 3, h, w), coord (B, Q, 2), cell (B, Q, 2), gt (B, Q, 3)
    lq           -- archs/ -----------------> feat = net.encode(lq)                (B, C, h, w)
    feat         -- archs/ -----------------> rgb = net.query(feat, coord, cell)   (B, Q, 3)
    net, lq      -- inference/render.py ----> image (B, 3, H, W) of any size
    image, gt    -- metrics/, evaluation/ --> PSNR and SSIM under a fixed protocol
    all of it    -- models/ ----------------> trained and validated by BasicSR's own loop

The route of a photo (``liif upscale``, ``liif_plugin.upscale``)::

    file         -- image_io/reading.py ----> pixels of 8 or 16 bits
    weights      -- checkpoints/loading.py -> net
    pixels, net  -- inference/upscaling.py -> rows of any size, in tiles that fit into memory
    rows         -- image_io/writing.py ----> file, row by row

Imports between packages point one way. tests/project/test_structure.py has the order and enforces it.

``import liif_plugin`` loads nothing else until ``load``, ``upscale`` or ``ContinuousImage`` is asked for.
``import liif_plugin.register`` puts every name of ours into BasicSR's registries.
"""

__version__ = "0.1.0"
__all__ = ["ContinuousImage", "load", "upscale"]


def __getattr__(name: str):
    if name in __all__:
        from . import register  # noqa: F401  load() builds networks of ours
        from .inference import api

        return getattr(api, name)
    raise AttributeError(f"module 'liif_plugin' has no attribute '{name}'")
