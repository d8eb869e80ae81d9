"""Rules and alerts for Prometheus, and a dashboard for Grafana, which fit `/metrics`."""

from __future__ import annotations

from importlib.resources import files as resources

NAMES = ("recording_rules.yml", "alert_rules.yml", "grafana_dashboard.json")


def files() -> dict[str, str]:
    """Return the text of each by its name."""
    folder = resources(__name__)
    return {name: folder.joinpath(name).read_text(encoding="utf-8") for name in NAMES}
