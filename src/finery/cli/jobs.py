"""`finery jobs`: the commands of the queue, and the import and export of runs and jobs beside them."""

from finery.cli.exporting import export
from finery.importing.commands import import_runs
from finery.jobs.commands import app

app.command("import")(import_runs)
app.command("export")(export)
