"""The commands `featvis models` and `featvis layers`."""

from __future__ import annotations

from benchmark.arguments import weights_line
from benchmark.checks import check_networks
from featvis.networks.names import weights_directory


def models() -> int:
    """List the networks that can be used here and now, and why the others cannot."""
    weights_directory()

    from featvis.networks.hub import available

    for spec, weights, note in available():
        print(f"{'yes' if weights else 'no ':3}  {spec.alias:22} {spec.name:45} {note}")
    print("Any other timm classifier works by its full tag, where its weights can be downloaded.")
    return 0


def layers(model: str) -> int:
    """List the layers of a network that have units, with their shape for one image and what a channel is in each.

    A unit is written layer:index (blocks.2:7), several blocks.2:0-31 or blocks.2:3+7; [patches], [cls], [reg0] or
    [row,column] after it say where it is read.

    Args:
        model: network, by alias, full timm tag, file in the folder FEATVIS_WEIGHTS, or wrap:FILE for a network of your
            own (a YAML with class_path, mean, std, input_size and labels).
    """
    check_networks([model], "MODEL")

    from featvis.networks.loading import load

    network = load(model, flag="MODEL")
    found = network.layers()
    print(weights_line(network))
    width = max(map(len, found), default=0)
    for name, layer in found.items():
        print(f"{name:{width}}  {' x '.join(map(str, layer.shape)):18} {layer.channels:6} channels, {layer.what}")
    return 0
