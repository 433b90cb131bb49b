"""Prints what the backward pass keeps of the forward pass, with and without rematerialisation.

python tests/scripts/measure_remat.py
"""

import jax
import jax.numpy as jnp

from realsr_jax.losses import SSIM, Weighted
from realsr_jax.models import build_model, parameter_shapes
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.train.step import make_loss

PATCH_SIZE = 400


def main() -> None:
    side = PATCH_SIZE // 2
    batch = {
        "lr": jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8),
        "hr": jax.ShapeDtypeStruct((1, PATCH_SIZE, PATCH_SIZE, 3), jnp.uint8),
    }
    for config in (OADDetConfig(), EDSRConfig(), DRLNConfig()):
        params = parameter_shapes(config)
        figures = []
        for remat in (False, True):
            loss_fn = make_loss(build_model(config, remat=remat), (Weighted(SSIM()),))

            def backward(params, batch, loss_fn=loss_fn):
                return jax.vjp(lambda p: loss_fn(p, batch), params, has_aux=True)[1]

            kept = jax.tree.leaves(jax.eval_shape(backward, params, batch))
            figures.append(sum(x.size * x.dtype.itemsize for x in kept) / 2**30)
        print(f"{type(config).__name__}: {figures[0]:.1f} GiB, rematerialised {figures[1]:.1f} GiB")


if __name__ == "__main__":
    main()
