"""`finery data ...`: dataset versions, over REST."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from finery.core import console, documents, folders
from finery.core.client import connect
from finery.core.console import JsonOption
from finery.core.errors import InvalidSpec

app = typer.Typer(no_args_is_help=True, help="Import, generate and look at datasets.")

RefArgument = Annotated[str, typer.Argument(help="name@version, or a name for its newest version.")]
NameOption = Annotated[str, typer.Option("--name", "-n", help="Lower-case letters, digits, dot, hyphen, underscore.")]
_ENDINGS = {"jsonl": (".jsonl", ".ndjson"), "verl": (".parquet",)}
"""Target of an export -> how its files are called."""
_WRITTEN = {"jsonl": "JSON Lines", "verl": "Parquet"}
_WIDTH = 200


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="JSONL, JSON, CSV, TSV or Parquet.")],
    name: NameOption,
    format_: Annotated[str | None, typer.Option("--format", help="sft, verifiable, preference, unpaired.")] = None,
    keep_good_rows: Annotated[bool, typer.Option(help="Leave broken rows out and report them by line.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset version from a file. The same content again gives the version that exists."""
    if not file.is_file():
        raise InvalidSpec(f"there is no file {file}")
    with connect() as client:
        body = {"name": name, "object": client.upload(file), "file_name": file.name, "keep_good_rows": keep_good_rows}
        made = client.post("/datasets/import", body | ({"format": format_} if format_ else {}))
    _show(made, as_json)


@app.command()
def generate(
    generator: Annotated[str, typer.Argument(help="Generator; `finery data generators` lists them.")],
    name: NameOption,
    set_: Annotated[list[str] | None, typer.Option("--set", "-s", help="Set a parameter: a.b=1. Repeatable.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset version with a generator."""
    params = documents.override(documents.Document({}, {}), set_ or []).value
    with connect() as client:
        made = client.post("/datasets/generate", {"generator": generator, "name": name, "params": params})
    _show(made, as_json)


@app.command()
def generators(as_json: JsonOption = False) -> None:
    """List the generators and their parameters."""
    with connect() as client:
        page = client.get("/datasets/generators")
    if as_json:
        console.emit(page)
        return
    for entry in page["generators"]:
        console.say(f"{entry['name']}: {entry['summary']}")
        properties = entry["params_schema"]["properties"]
        console.table(("  parameter", "default", "meaning"), [_parameter(key, p) for key, p in properties.items()])


@app.command("list")
def list_versions(
    name: Annotated[str | None, typer.Option("--name", "-n", help="Only versions of this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most versions to show.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List dataset versions, newest first."""
    with connect() as client:
        page = client.get("/datasets", name=name, limit=limit)
    if as_json:
        console.emit(page)
        return
    if not page["versions"]:
        console.say("There are no datasets. `finery data generate arithmetic --name sums` makes one.")
        return
    console.table(
        ("dataset", "format", "rows", "MB", "created (UTC)"),
        [
            (v["ref"], v["format"], v["num_rows"], f"{v['num_bytes'] / 1e6:.2f}", v["created_at"][:19])
            for v in page["versions"]
        ],
    )


@app.command()
def show(ref: RefArgument, as_json: JsonOption = False) -> None:
    """Show one version: size, source, and rows that were left out."""
    with connect() as client:
        version = client.get(f"/datasets/{ref}")
    _show(version, as_json)


@app.command()
def head(
    ref: RefArgument,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=1000, help="Most rows to show.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="Rows to skip.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Print some rows."""
    with connect() as client:
        page = client.get(f"/datasets/{ref}/rows", limit=limit, offset=offset)
    if as_json:
        console.emit(page)
        return
    for number, row in enumerate(page["rows"], start=page["offset"]):
        text = orjson.dumps(row).decode()
        console.say(f"{number:>6}  {text if len(text) <= _WIDTH else text[:_WIDTH] + '...'}")
    console.say(f"{page['ref']} has {page['num_rows']} rows")


@app.command()
def export(
    ref: RefArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, .jsonl or .parquet as --to says.")],
    to: Annotated[str, typer.Option("--to", help="jsonl, or verl: Parquet as verl trains on it.")] = "jsonl",
    as_json: JsonOption = False,
) -> None:
    """Write all rows of a version to a file."""
    if to not in _ENDINGS:
        raise InvalidSpec(f"--to {to} is not known; known are {', '.join(_ENDINGS)}")
    if out.suffix.lower() not in _ENDINGS[to]:
        other = next((f", or add --to {name}" for name, known in _ENDINGS.items() if out.suffix.lower() in known), "")
        way_out = f"name it {out.stem}{_ENDINGS[to][0]}{other}"
        raise InvalidSpec(f"--to {to} writes {_WRITTEN[to]}, and {out.name} is named otherwise; {way_out}")
    if not out.parent.is_dir():
        raise InvalidSpec(f"there is no folder {out.parent}; make it first")
    folders.writable(out.parent, way_out="name another file with --out")
    with connect() as client, tempfile.TemporaryDirectory(prefix="finery-export-") as folder:
        version = client.get(f"/datasets/{ref}")
        lines = out if to == "jsonl" else Path(folder) / "rows.jsonl"
        client.download(f"/datasets/{version['ref']}/lines", lines)
        num_rows = version["num_rows"] if to == "jsonl" else _write_for_verl(version, lines, out)
    if as_json:
        console.emit({"ref": version["ref"], "to": to, "file": str(out), "num_rows": num_rows})
    else:
        console.say(f"{out}: {num_rows:,} rows of {version['ref']}")


def _write_for_verl(version: dict[str, Any], lines: Path, out: Path) -> int:
    from finery.core import parquet  # noqa: PLC0415 - pyarrow takes long to import, and few commands need it

    write = parquet.WRITERS.get(version["format"])
    if write is None:
        raise InvalidSpec(
            f"{version['ref']} is data of the format {version['format']}, and verl trains on "
            f"{' or '.join(parquet.WRITERS)}; name other data, or take --to jsonl"
        )
    with open(lines, "rb") as file:
        return write((orjson.loads(line) for line in file), out, version["ref"])


def _show(version: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.emit(version)
        return
    console.say(f"{version['ref']}  {version['format']}, {version['num_rows']} rows, {version['num_bytes']:,} bytes")
    console.say(f"source: {orjson.dumps(version['source']).decode()}")
    console.say(f"sha256: {version['sha256']}")
    if version["num_problems"]:
        console.say(f"rows left out: {version['num_problems']}")
        console.table(("line", "problem"), [(p["line"], p["message"]) for p in version["problems"]])


def _parameter(name: str, schema: dict[str, Any]) -> tuple[str, str, str]:
    default = orjson.dumps(schema["default"]).decode() if "default" in schema else "(required)"
    return f"  {name}", default, schema.get("description", "")
