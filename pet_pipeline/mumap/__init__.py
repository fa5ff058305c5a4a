"""Attenuation maps from PET alone: the population prior and the cascade that uses it."""
