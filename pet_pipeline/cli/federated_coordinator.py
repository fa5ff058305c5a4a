"""`pet-pipeline federated init, approve, forget, server, run, resume, status, logs, stop`: the coordinator's side."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pet_pipeline.cli import choices

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Of the coordinator.", show_default=False)]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.", show_default=False)]

server = typer.Typer(help="The coordinator's processes.", no_args_is_help=True)


class Part(StrEnum):
    """The coordinator's processes."""

    SUPERLINK = "superlink"
    SUPEREXEC = "superexec"


def init(
    folder: Folder,
    host: Annotated[
        list[str], typer.Option("--host", help="Name or address under which sites reach the server; repeatable.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="That nginx listens on.")] = 443,
    loopback_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the SuperLink, on 127.0.0.1 alone.")] = 18000,
) -> None:
    """Make a coordinator's folder: certificate authority, server certificate, settings, nginx's file.

    Keep ca.key off the machine once the server certificate is made; send ca.crt to every site.
    """
    from pet_pipeline.cli.console import results
    from pet_pipeline.federated.deployment import ServerSettings, require_flwr, write_coordinator

    require_flwr()
    from pet_pipeline.federated.keys import make_authority

    make_authority(folder, host)
    write_coordinator(folder, ServerSettings(hosts=tuple(host), port=port, loopback_port=loopback_port))
    results.print(
        f"coordinator: {folder}; send {folder / 'ca.crt'} to the sites, link {folder / 'nginx.conf'} into nginx",
        highlight=False,
        soft_wrap=True,
    )


@server.command()
def start(
    folder: Folder, only: Annotated[Part | None, typer.Option("--only", help="One process; default both.")] = None
) -> None:
    """Run the SuperLink and what runs the runs, in the foreground; who dies is started again."""
    from pet_pipeline.federated.deployment import environment, require_flwr, server_commands, supervise

    require_flwr()
    commands = server_commands(folder)
    chosen = {only.value: commands[only.value]} if only else commands
    supervise(chosen, environment(folder.resolve() / "flwr"), folder / "logs")


def approve(
    folder: Folder,
    key: Annotated[Path, typer.Argument(metavar="KEY", help="The site's .pub file.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="The site is known by this name from now on.")],
) -> None:
    """Let a site in: register its public key. Compare the key with the site by telephone first."""
    import re
    import shutil

    from pet_pipeline.cli.console import results
    from pet_pipeline.configs.federated import SITE_NAME
    from pet_pipeline.data.files import write_json
    from pet_pipeline.errors import UsageError
    from pet_pipeline.federated.deployment import CONNECTION, flwr, require_flwr

    require_flwr()
    from pet_pipeline.federated.keys import check_public_key

    if not re.fullmatch(SITE_NAME, name):
        raise UsageError(f"--name {name!r}: needed are letters, digits, dot, dash, underscore, at most 64")
    kept = folder / "sites" / f"{name}.pub"
    if kept.exists():
        raise UsageError(f"{name}: approved already, with {kept}; choose another name, or federated forget it first")
    check_public_key(key)
    answer = flwr(folder, "supernode", "register", str(key.resolve()), CONNECTION, "--name", name)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept.with_suffix(".json"), {"node-id": answer["node-id"]})
    shutil.copyfile(key, kept)
    results.print(f"approved: {name}", highlight=False)


def forget(
    folder: Folder, name: Annotated[str, typer.Argument(metavar="NAME", help="Of the site.", show_default=False)]
) -> None:
    """Shut a site out for good: its key is worth nothing any more. Its name is free for a new key."""
    import json

    from pet_pipeline.cli.console import results
    from pet_pipeline.errors import UsageError
    from pet_pipeline.federated.deployment import CONNECTION, flwr

    known = {path.stem: path for path in sorted((folder / "sites").glob("*.json"))}
    if name not in known:
        raise UsageError(f"{name}: no site approved in {folder}; there are {', '.join(known) or 'none'}")
    number = json.loads(known[name].read_text(encoding="utf-8"))["node-id"]
    flwr(folder, "supernode", "unregister", str(number), CONNECTION)
    known[name].unlink()
    known[name].with_suffix(".pub").unlink(missing_ok=True)
    results.print(f"forgotten: {name}", highlight=False)


def run(
    folder: Folder,
    name: Run,
    config: Annotated[
        str, typer.Option("--config", help="Preset (tiny-federated, federated-demo) or YAML file.")
    ] = "federated-demo",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. quorum=3.")] = None,
) -> None:
    """Start a federated training; FOLDER/runs/RUN/model is its global model."""
    import re

    from pet_pipeline.configs.federated import SITE_NAME, FederatedSettings
    from pet_pipeline.configs.loading import dump, load
    from pet_pipeline.errors import UsageError
    from pet_pipeline.federated.deployment import read_coordinator, require_flwr
    from pet_pipeline.federated.privacy import check_budget

    require_flwr()
    read_coordinator(folder)
    place = folder / "runs" / name
    if not re.fullmatch(SITE_NAME, name) or place.exists():
        raise UsageError(f"{name}: needed is a plain name that no run has; to go on with one: federated resume")
    plan = load(FederatedSettings, config, settings or [])
    check_budget(plan)
    dump(plan, place / "plan.yaml")
    _launch(folder, name, resume=False)


def resume(folder: Folder, name: Run) -> None:
    """Go on with a run that stopped, from its last finished round."""
    from pet_pipeline.data.files import held
    from pet_pipeline.federated import state

    place = _existing(folder, name)
    with held(place / state.FILE):
        pass  # a run at work is refused here, and not in Flower's log alone
    _launch(folder, name, resume=True)


def _launch(folder: Path, name: str, *, resume: bool) -> None:
    from pet_pipeline.cli.console import results
    from pet_pipeline.data.files import write_json
    from pet_pipeline.federated.deployment import CONNECTION, flwr

    place = folder / "runs" / name
    options = f'folder="{place.resolve()}" resume={str(resume).lower()}'
    answer = flwr(folder, "run", str((folder / "bundle").resolve()), CONNECTION, "--run-config", options)
    write_json(place / "flower.json", {"run-id": answer["run-id"]})
    results.print(f"run: {name}; see federated status {folder} {name}", highlight=False, soft_wrap=True)


def _existing(folder: Path, name: str) -> Path:
    from pet_pipeline.errors import UsageError

    place = folder / "runs" / name
    if not (place / "plan.yaml").is_file():
        known = sorted(path.parent.name for path in (folder / "runs").glob("*/plan.yaml"))
        raise UsageError(f"{name}: no such run in {folder}; there are {', '.join(known) or 'none'}")
    return place


def _flower_id(place: Path) -> str:
    import json

    return str(json.loads((place / "flower.json").read_text(encoding="utf-8"))["run-id"])


def status(folder: Folder, name: Run, json: choices.Json = False) -> None:
    """Show where a run stands, from the files that it writes; at the end, what each site gained by its own model."""
    from pet_pipeline.cli.console import print_json, results
    from pet_pipeline.cli.federated_table import print_gains
    from pet_pipeline.federated.audit import read_audit

    place = _existing(folder, name)
    events = read_audit(place / "audit.jsonl")
    rounds = [event for event in events if event["event"] == "round"]
    end = next((event for event in reversed(events) if event["event"] == "finished"), None)
    facts: dict[str, Any] = {
        "run": name,
        "finished": end is not None,
        "stopped": events[-1]["reason"] if events and events[-1]["event"] == "stopped" else None,
        "rounds": len(rounds),
        "last": rounds[-1] if rounds else None,
        "refusals": sum(event["event"] == "refused" for event in events),
        "model": str(place / "model") if (place / "model").is_dir() else None,
    }
    personal, epsilon = ((end or {}).get("personal") or {}, (end or {}).get("epsilon"))
    if json:
        print_json({**facts, "personal": personal, "epsilon": epsilon})
        return
    for key, value in facts.items():
        results.print(f"{key}: {value}", highlight=False, markup=False, soft_wrap=True)
    print_gains(personal, epsilon)


def logs(
    folder: Folder,
    name: Run,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="So many of the last events.")] = 50,
) -> None:
    """Print a run's audit log: who sent what, when, with which checksum."""
    from pet_pipeline.cli.console import results
    from pet_pipeline.federated.audit import read_audit

    for event in read_audit(_existing(folder, name) / "audit.jsonl")[-lines:]:
        facts = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("time", "event"))
        results.print(f"{event['time']} {event['event']} {facts}", highlight=False, markup=False, soft_wrap=True)


def stop(folder: Folder, name: Run) -> None:
    """Stop a run after what it is doing; finished rounds stay, `resume` goes on."""
    from pet_pipeline.cli.console import results
    from pet_pipeline.federated.deployment import CONNECTION, flwr

    flwr(folder, "stop", _flower_id(_existing(folder, name)), CONNECTION)
    results.print(f"stopped: {name}; a site that is training finishes its leg, the answer is dropped", highlight=False)
