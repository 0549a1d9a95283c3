"""The methods published since MACO, and what they share: the images that they see and the losses over them."""
