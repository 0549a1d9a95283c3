"""The matrix between the decorrelated colours of the optimisation and RGB; no torch, so that figures can use it too.

Lucid's square root of the colour covariance of ImageNet over its largest column norm, transposed (Olah et al. 2017,
"Preconditioning and parameterization"): RGB = x @ RECORRELATE on the channel axis.
"""

RECORRELATE = (
    (0.56282854, 0.58447580, 0.58447580),
    (0.19482528, 0.0, -0.19482528),
    (0.04329450, -0.10823626, 0.06494176),
)
