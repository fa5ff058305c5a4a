"""Names that the command line shows in its help; apart, so that help needs no other import."""

DEFAULT_MODEL = "phantom-fdg-5mm"
"""The built-in model: 18F-FDG, 5 mm, trained on simulated patients."""

ONE_STEP_MODEL = "phantom-fdg-5mm-1step"
"""The same taught on for one evaluation a view: better in half of the time; its paths hardly differ."""

NDIF_MODEL = "phantom-ndif-5mm"
"""The built-in model of attenuation-corrected low-dose PET, told the noise level of its input."""

DEFAULT_MUMAP_MODEL = "phantom-mumap-5mm"
"""The built-in model of mu-maps: its cascade and its population bank."""
