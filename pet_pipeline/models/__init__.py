"""Networks: building blocks, the 2.5D denoiser, the 3D prior, and the folders in which trained ones are kept."""
