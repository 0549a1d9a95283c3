"""From a study's YAML to its folder: what an occluder does to each image, references, trials, pictures."""
