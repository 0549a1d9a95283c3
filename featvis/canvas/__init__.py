"""How a picture is written down (colour, spectrum, parametrization) and looked at (transforms, sampling)."""
