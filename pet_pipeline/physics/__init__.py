"""PET physics on arrays: projection, attenuation, acquisition, reconstruction."""
