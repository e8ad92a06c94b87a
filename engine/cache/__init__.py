"""Answers that are kept, so that the same question is computed once; where they are kept is the adapters'."""
