"""Repeats the papers' tables: commands that train, explain or rank on a folder of images and report with intervals."""
