"""`finery jobs`: the commands of the queue, and the import and export of runs beside them."""

from finery.exporting.commands import export_runs
from finery.importing.commands import import_runs
from finery.jobs.commands import app

app.command("import")(import_runs)
app.command("export")(export_runs)
