"""Arbitrary-scale image super-resolution with LIIF, as an extension of BasicSR.

The route of a picture, and the module that owns each step::

    files, LMDB --data/--> lq (B, 3, h, w), coord (B, Q, 2), cell (B, Q, 2), gt (B, Q, 3)
    lq ---------archs/---> feat = net.encode(lq)                 (B, C, h, w)
    feat -------archs/---> rgb  = net.query(feat, coord, cell)   (B, Q, 3)
    net, lq ----render.py> image (B, 3, H, W) of any size
    image, gt --metrics/-> PSNR, SSIM under a frozen protocol
    all of it --models/--> trained and validated by BasicSR's own loop

Layers; an import may only point to the left::

    errors < compat < coords, resize < {archs | data | metrics} < render < models < convert < cli

``import liif_plugin`` loads nothing else. ``import liif_plugin.register`` puts every name of ours into BasicSR's registries.
"""

__version__ = "0.1.0"
