"""The diagnostics bundle: what a technician needs to know of a booth, and nothing of anybody who used it. Contract §8.

A process of its own makes it (`python -m agent.diagnostics`): a bundle of megabytes would stay in the daemon's memory for good.
Everything goes in by an allow-list (`allowed`, `units`): what is not known to be the booth's own word is left out.
"""
