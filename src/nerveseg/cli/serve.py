"""``nerveseg serve``: the service, on this machine unless it is told otherwise."""

from __future__ import annotations

from typing import Annotated

import typer

from nerveseg.cli._console import guarded, note, still, waiting
from nerveseg.cli.segment import Dtype, LowMemory, Offline, RecipeName, Settings

__all__ = ["serve"]


@guarded
def serve(
    *,
    recipe: RecipeName = "nerve",
    settings: Settings = None,
    host: Annotated[str, typer.Option(help="Address to listen on. Another than loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="NERVESEG_TOKEN", help="Bearer token of clients. Better in the environment: others see a command.")
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Let anybody in who reaches the host.")] = False,
    public: Annotated[
        list[str] | None, typer.Option("--public-host", metavar="NAME", help="Name under which a proxy shows it; may be given again.")
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="cpu, cuda:0, … One worker each; may be given again.")] = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
    limits: Annotated[
        list[str] | None, typer.Option("--limit", metavar="NAME=VALUE", help="Change a limit: body_mib=50. docs/service.md lists them.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not log requests.")] = False,
) -> None:
    """Serve images and words over HTTP. SIGTERM drains: what was accepted is answered, then it exits 0.

    Try it: curl -F file=@cat.jpg --form-string labels='cat; kitten, grass' http://127.0.0.1:8000/v1/segment -o mask.png
    """
    import logging

    from nerveseg import recipe as recipes
    from nerveseg import registry
    from nerveseg.cli._words import read_settings
    from nerveseg.server import need_extra

    need_extra()
    from nerveseg.server.limits import Limits
    from nerveseg.server.listening import listen
    from nerveseg.server.run import check_door, hosts_of
    from nerveseg.server.run import serve as run
    from nerveseg.server.service import Service

    allowed = registry.options(Limits, read_settings(limits or (), "--limit", "body_mib=50"), "limits")
    check_door(host, token, open_door=no_token)
    knobs = read_settings(settings or ())
    chosen = recipes.load(recipe, knobs)
    with listen(host, port) as door:
        with waiting(f"loading the networks of {chosen.name!r}"):
            from nerveseg.segmenter import Segmenter

            still()
            made = [
                Segmenter.from_pretrained(recipe, device=place, dtype=dtype, offline=offline, low_memory=low_memory, settings=knobs)
                for place in device or [None]
            ]
        logging.basicConfig(format="%(asctime)s %(message)s")  # on stderr, as all talk
        logging.getLogger("nerveseg.server").setLevel(logging.WARNING if quiet else logging.INFO)
        hosts = hosts_of(host, token, open_door=no_token)
        service = Service(made, allowed, token=token, hosts=hosts, public=frozenset(name.lower() for name in public or ()))
        run(service, door, ready=lambda address: note(f"{address}, recipe {chosen.name!r}", style="green", lead="serving"))
