"""The site: what a network is made of, page by page, and the leaderboard of methods.

`making` computes (networks, real images; data and pictures out), `rendering` makes pages of that without torch, `board`
the leaderboard from records, `packs` what others submit. `model` is what they hand to each other, as JSON files.
"""
