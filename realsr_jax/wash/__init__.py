"""Washing: finding the pairs of a data set that training should leave out."""
