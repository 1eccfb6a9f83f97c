"""`make bench`: what the agent costs and how quick it is, beside its peers, in one run."""
