"""`pet-pipeline federated simulate`: a whole federation on one machine, to try it."""

from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices


def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the run: server, sites, the model.")],
    data: Annotated[
        list[Path], typer.Option("--data", help="manifest.tsv; repeatable: each is then a site, named by its folder.")
    ],
    sites: Annotated[
        int | None, typer.Option("--sites", min=1, help="Divide one manifest's participants among so many sites.")
    ] = None,
    config: Annotated[
        str, typer.Option("--config", help="Preset (tiny-federated, federated-demo) or YAML file.")
    ] = "federated-demo",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. server.name=fedadam or local_steps=50.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished round.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that bring cases onto the model grid.")] = 2,
    ray: Annotated[bool, typer.Option("--ray", help="Sites side by side, by Flower's own simulation on Ray.")] = False,
    site_cpus: Annotated[
        int | None, typer.Option(min=1, help="--ray: cores that a site at work gets; 1 without.")
    ] = None,
    site_gpus: Annotated[
        float | None, typer.Option(min=0, help="--ray: GPUs that it gets; 0.5: two sites share one; none without.")
    ] = None,
    json: choices.Json = False,
) -> None:
    """Train one model over several sites in this process, without network and Flower; or, with --ray, over Flower.

    OUT/model is the global model; OUT/sites/SITE/RUN/model a site's own, fine-tuned, where personal_steps is not 0.
    """
    from pet_pipeline.cli.console import bars, messages, print_json, results
    from pet_pipeline.cli.federated_table import print_gains
    from pet_pipeline.configs.federated import FederatedSettings
    from pet_pipeline.configs.loading import load
    from pet_pipeline.data.files import held
    from pet_pipeline.data.manifest import Manifest
    from pet_pipeline.errors import UsageError
    from pet_pipeline.federated import simulation
    from pet_pipeline.federated.deployment import require_flwr
    from pet_pipeline.federated.privacy import check_budget
    from pet_pipeline.federated.rounds import Coordinator
    from pet_pipeline.training.session import claim

    if not ray and (site_cpus is not None or site_gpus is not None):
        raise UsageError("--site-cpus and --site-gpus: only with --ray; give that too")
    plan = load(FederatedSettings, config, settings or [])
    manifests = simulation.assign_data([Manifest.load(path) for path in data], sites)
    messages.print(f"{len(manifests)} sites: {', '.join(sorted(manifests))}; settings {config}", highlight=False)

    def report(line: str) -> None:
        messages.print(line, highlight=False)

    totals = dict.fromkeys(manifests, float(simulation.steps_a_site(plan)))
    with held(output / "settings.yaml"), bars(totals) as tick:
        if ray:
            require_flwr()
            from pet_pipeline.federated import ray_simulation

            share = ray_simulation.Share(site_cpus or 1, site_gpus or 0.0)
            personal, epsilon = ray_simulation.run(
                manifests, plan, output, workers=workers, share=share, resume=resume, tick=tick, report=report
            )
        else:
            check_budget(plan)
            claim(output, plan, "federated", resume)  # before the sites' files of a run that is there are touched
            made = simulation.make_sites(manifests, output / "sites", plan, workers=workers, tick=tick)
            outcome = Coordinator(plan, simulation.InProcessFleet(made), output, report).run(resume=True)
            personal, epsilon = outcome.personal, outcome.epsilon
    model = None if plan.keep_local else output / "model"
    if json:
        print_json({"model": model, "personal": personal, "epsilon": epsilon})
        return
    print_gains(personal, epsilon)
    results.print(f"model: {model or 'none: each site has its own'}", highlight=False, soft_wrap=True)
