"""Judgement as pure functions: no clock, no I/O, no await. Time is always an argument."""
