"""Measuring a model that serves: what is sent, how it is driven, what follows from it."""
