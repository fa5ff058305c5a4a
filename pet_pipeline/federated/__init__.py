"""Training across sites that keep their data, after Fed-NDIF (arXiv 2503.16635).

`task` is a site's own computation, `site` its door, with its `limits`, `rounds` the server's loop, `exchange` what they
say to each other; none of them knows Flower. `codec` and `apps` carry it over Flower, `keys` and `deployment` run it
between real sites, `simulated_apps` and `ray_simulation` on one machine by Flower's own simulation.
This is the only package that may import flwr, which comes with the extra `federated`; import-linter holds that.
"""
