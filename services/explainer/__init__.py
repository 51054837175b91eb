"""Explains cases: takes them from the detector, asks the explaining model beside the verdict's own, grades the maps."""
