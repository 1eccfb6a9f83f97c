"""The operator's signed documents: signatures, the trust list, what is accepted and why not, what is kept, which layer counts.

Used by whatever judges them in a process of its own: the agent's verifier, root's lockdown, and `boothctl`, which signs. The
daemon imports none of what verifies: it would keep the library for good.
"""
