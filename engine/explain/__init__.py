"""Why a model answered what it did: how much each value of a row moved the answer away from that of other rows.

All attributions are Shapley values of the same game: a column that plays has the row's own value, one that does not has
that of a background row, averaged over all of these. They add up to the answer less the mean answer to the background.
"""
