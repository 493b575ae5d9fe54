"""The Hugging Face hub, or a mirror of it (`HF_ENDPOINT`): which commit a name stands for, and which files it has."""

import os
from pathlib import Path
from typing import Any, Final

from finery.core.errors import Forbidden, InvalidSpec, NotFound, Unavailable
from finery.models.downloading import RemoteFile

TOKEN: Final = "HF_TOKEN"
_TIMEOUT_SECONDS = 20.0


def pin(repo: str, revision: str | None, token: str | None) -> tuple[str, list[str]]:
    """The commit that a name stands for now, and the names of its files.

    Raises:
        InvalidSpec: no repository can have this name. NotFound: no such repository or revision.
        Forbidden: gated. Unavailable: the hub cannot be reached or fails.
    """
    info = _info(repo, revision, token)
    return str(info.sha), [file.rfilename for file in info.siblings or ()]


def list_files(repo: str, commit: str, token: str | None) -> list[RemoteFile]:
    """The files of a commit with their sizes and hashes.

    Raises:
        As `pin`.
    """
    from huggingface_hub import hf_hub_url, try_to_load_from_cache  # noqa: PLC0415 - heavy

    found = []
    for file in _info(repo, commit, token, files_metadata=True).siblings or ():
        cached = try_to_load_from_cache(repo, file.rfilename, revision=commit)
        found.append(
            RemoteFile(
                path=file.rfilename,
                num_bytes=file.size or 0,
                repo=repo,
                url=hf_hub_url(repo, file.rfilename, revision=commit, endpoint=_endpoint()),
                sha256=file.lfs.sha256 if file.lfs else None,
                git_sha1=None if file.lfs else file.blob_id,
                copy=Path(cached) if isinstance(cached, str) else None,
            )
        )
    return found


def headers(token: str | None) -> dict[str, str]:
    """What tells the hub who asks."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _info(repo: str, revision: str | None, token: str | None, **options: Any) -> Any:
    from httpx2 import HTTPError  # noqa: PLC0415 - the hub library's HTTP client, whose errors it lets through
    from huggingface_hub import HfApi  # noqa: PLC0415 - heavy, and not needed for built-in names
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi(endpoint=_endpoint(), token=token)
    try:
        return api.model_info(repo, revision=revision, timeout=_TIMEOUT_SECONDS, **options)
    except HFValidationError as error:
        raise InvalidSpec(f"{repo!r} cannot be the name of a model; a hub id is org/name ({error})") from error
    except GatedRepoError as error:
        raise Forbidden(
            f"{repo} is gated: accept its licence on the hub and set HF_TOKEN to a token that may read it"
        ) from error
    except RevisionNotFoundError as error:
        raise NotFound(f"{repo} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise NotFound(f"the hub has no model {repo}, or it is private: check the spelling, or set HF_TOKEN") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise Forbidden(
                f"the hub does not let us read {repo} ({status}); set HF_TOKEN to a token that may"
            ) from error
        raise Unavailable(f"the hub answered {status} for {repo}; try again, or set HF_ENDPOINT to a mirror") from error
    except (OSError, HTTPError) as error:  # a refused connection is an HTTPError and no OSError
        raise Unavailable(
            f"the hub cannot be reached for {repo} ({error}); set HF_ENDPOINT, or use a local folder"
        ) from error
