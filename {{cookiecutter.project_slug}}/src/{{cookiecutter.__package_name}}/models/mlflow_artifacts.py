"""``project:FOLDER``, a folder of this project, where MLflow keeps artifacts by default.

MLflow makes every plain path absolute before it stores it. A moved or copied project would then
not find its models, or would find those of the original.
"""

from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from ..settings import root


class ProjectArtifactRepository(LocalArtifactRepository):
    """Found by MLflow through the entry point in pyproject.toml."""

    def __init__(self, artifact_uri: str, *args, **options) -> None:
        folder = root() / artifact_uri.removeprefix("project:")
        super().__init__(str(folder), *args, **options)
