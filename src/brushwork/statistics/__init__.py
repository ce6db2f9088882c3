"""Intervals and tests for small paired samples, where the prompt is the unit; votes; numpy only.

The unit is always told: prompts for pictures, raters and prompts for votes.

test = sign_flip_test([0.02, 0.03, -0.01, 0.04, 0.02, 0.05])
test.p, test.smallest_p                       # 0.0625, 0.03125
cluster_bootstrap([[0.31, 0.29], [0.25, 0.27]])   # mean, low, high over prompts
bradley_terry([[0, 3], [1, 0]])                   # 0.75, 0.25
"""

from brushwork.statistics.agreement import fleiss_kappa
from brushwork.statistics.paired import Interval, SignFlip, cluster_bootstrap, sign_flip_test, smallest_p
from brushwork.statistics.rates import holm, mcnemar_test, votes_needed, votes_still_needed, wilson_interval
from brushwork.statistics.strengths import Ranking, Votes, bradley_terry, is_connected, rank

__all__ = [
    "Interval",
    "Ranking",
    "SignFlip",
    "Votes",
    "bradley_terry",
    "cluster_bootstrap",
    "fleiss_kappa",
    "holm",
    "is_connected",
    "mcnemar_test",
    "rank",
    "sign_flip_test",
    "smallest_p",
    "votes_needed",
    "votes_still_needed",
    "wilson_interval",
]
