"""What things cost: each method beside the network's own forward and input gradient, and beside other libraries.

Everything compared is timed in one process, in turn, and compared by the median of the ratios, because a machine's
speed drifts. In: names of networks and methods. Out: a record (JSON) with a Markdown table made from it.
"""
