"""Recipes: each one importable, with its expected result stated and checked."""
