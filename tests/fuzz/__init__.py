"""Fuzzing of what reads the operator's documents: `make fuzz`. `tests/documents/test_fuzz_corpus.py` replays the corpus."""
