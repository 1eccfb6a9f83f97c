"""Fuzzing of what reads the operator's documents and files: `make fuzz`.

`tests/documents/test_fuzz_corpus.py` replays the corpus.
"""
