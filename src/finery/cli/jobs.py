"""`finery jobs`: the commands of the queue, and the import of foreign runs beside them."""

from finery.importing.commands import import_runs
from finery.jobs.commands import app

app.command("import")(import_runs)
