"""The table at the end of a federated run: what each site gained by its own fine-tuning."""

from collections.abc import Mapping


def print_gains(personal: Mapping[str, Mapping[str, float]], epsilon: float | None) -> None:
    """Print the gain of every site and network on the site's own validation cases, and epsilon if privacy was on.

    Args:
        personal: site -> `before/ROLE/psnr_db` and `after/ROLE/psnr_db`; a site without validation cases has neither.
        epsilon: spent; None without privacy.
    """
    from rich.table import Table
    from rich.text import Text

    from pet_pipeline.cli.console import results

    if epsilon is not None:
        results.print(f"differential privacy of sites: epsilon {epsilon:.2f}", highlight=False)
    if not personal:
        return
    table = Table(title="PSNR in the body on the site's own validation cases, dB")
    for header in ("site", "network", "global", "fine-tuned", "gain"):
        table.add_column(header, justify="left" if header in ("site", "network") else "right")
    for site, figures in personal.items():
        roles = sorted(name.split("/")[1] for name in figures if name.startswith("before/") and "psnr" in name)
        for role in roles:
            before, after = (figures[f"{when}/{role}/psnr_db"] for when in ("before", "after"))
            cells = (site, role, f"{before:.2f}", f"{after:.2f}", f"{after - before:+.2f}")
            table.add_row(*(Text(cell) for cell in cells))
    results.print(table)
