"""Diffusion as mathematics: schedule, objective, samplers and the fusion of views. Networks arrive as callables."""
