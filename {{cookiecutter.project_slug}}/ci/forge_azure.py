"""Azure DevOps through its REST API: changes, tags and protection.

In a pipeline SYSTEM_COLLECTIONURI, SYSTEM_TEAMPROJECT and BUILD_REPOSITORY_ID name the repository;
elsewhere the remote ``origin`` does. The token is SYSTEM_ACCESSTOKEN, or a personal access token
in AZURE_DEVOPS_EXT_PAT.
"""

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

import http_json
import origin
from http_json import quoted

from {{ cookiecutter.__package_name }}.errors import ProjectError

# The user name that git sends with the token.
USER = "pipeline"
PIPELINE = ".azuredevops/change.yml"
VERSION, PREVIEW = "7.1", "7.1-preview.1"
# The longest description of a pull request, in characters.
LONGEST = 4000
# Files that need a reviewer's approval; Azure DevOps has no CODEOWNERS.
OWNED = (
    "/src/{{ cookiecutter.__package_name }}/contract.py",
    "/src/{{ cookiecutter.__package_name }}/model.py",
    "/config/*",
    "/ci/*",
    "/.azuredevops/*",
)
# https://learn.microsoft.com/rest/api/azure/devops/policy/types/list
REVIEWS, BUILD, MERGING, COMMENTS, OWNERS = (
    "fa4e907d-c16b-4a4c-9dfa-4906e5d171dd",
    "0609b952-1397-4640-95ec-e00a01b2c241",
    "fa4e907d-c16b-4a4c-9dfa-4916e5d171ab",
    "c6a1889d-b943-4856-b76f-9e46bb6b0df2",
    "fd2167ab-b0be-447a-8ec8-39368250530e",
)
APPROVAL = {"id": "8c6f20a7-a545-4486-9777-f762fafe0d4d", "name": "Approval"}
TASK = {"id": "fe1de3ee-a436-41b4-bb20-f6eb4cb879a7", "name": "Task Check"}
BRANCH_CONTROL = {
    "id": "86b05a0c-73e6-4f7d-b3cf-e38f3b39a75b",
    "name": "evaluatebranchProtection",
    "version": "0.0.1",
}
# The longest wait for an approval, in minutes: 30 days.
TIMEOUT = 43_200


class Place(NamedTuple):
    """Addresses of the organization and the project, and the repository's name or id."""

    collection: str
    project: str
    repository: str


def token() -> str:
    """:raises ProjectError: none is set."""
    for name in ("SYSTEM_ACCESSTOKEN", "AZURE_DEVOPS_EXT_PAT"):
        if found := os.environ.get(name):
            return found
    raise ProjectError("the variable SYSTEM_ACCESSTOKEN is missing.")


def place() -> Place:
    names = ("SYSTEM_COLLECTIONURI", "SYSTEM_TEAMPROJECT", "BUILD_REPOSITORY_ID")
    collection, project, repository = (os.environ.get(name, "") for name in names)
    if not (collection and project and repository):
        collection, project, repository = _from_origin()
    collection = collection.rstrip("/")
    return Place(collection, f"{collection}/{quoted(project)}", repository)


def _from_origin() -> tuple[str, str, str]:
    server, path = origin.address()
    parts = [unquote(part) for part in path.split("/") if part not in ("_git", "v3")]
    if server.endswith("ssh.dev.azure.com"):
        server = "https://dev.azure.com"
    if len(parts) < 2:
        raise ProjectError(f"the remote origin, {origin.url()}, is no repository of Azure DevOps.")
    return "/".join([server, *parts[:-2]]), parts[-2], parts[-1]


def call(method: str, path: str, body: Any = None, version: str = VERSION) -> Any:
    """Call the API of the project; ``path`` is below its ``_apis``."""
    return _ask(method, f"{place().project}/_apis{path}", body, version)


def _ask(method: str, url: str, body: Any, version: str) -> Any:
    url += f"{'&' if '?' in url else '?'}api-version={version}"
    return http_json.ask(method, url, {"Authorization": http_json.basic(USER, token())}, body)


def git(method: str, path: str, body: Any = None) -> Any:
    """Call the API of the repository; ``path`` is below the repository."""
    return call(method, f"/git/repositories/{quoted(place().repository)}{path}", body)


def open_change(branch: str, title: str, body: str) -> str:
    """Open a pull request for a pushed branch, or update the open one; returns its address.

    https://learn.microsoft.com/rest/api/azure/devops/git/pull-requests
    """
    text = {"title": title, "description": body[:LONGEST]}
    ends = {
        "sourceRefName": f"refs/heads/{branch}",
        "targetRefName": f"refs/heads/{origin.MAIN}",
    }
    query = "".join(f"&searchCriteria.{key}={quoted(ref)}" for key, ref in ends.items())
    there = git("GET", f"/pullrequests?searchCriteria.status=active{query}")["value"]
    if there:
        change = git("PATCH", f"/pullrequests/{there[0]['pullRequestId']}", text)
    else:
        change = git("POST", "/pullrequests", ends | text)
    return f"{git('GET', '')['webUrl']}/pullrequest/{change['pullRequestId']}"


def release(tag: str, revision: str, notes: str) -> str:
    """Give a revision an annotated tag, unless it has this tag; returns the tag's address.

    https://learn.microsoft.com/rest/api/azure/devops/git/refs/list
    https://learn.microsoft.com/rest/api/azure/devops/git/annotated-tags/create

    :param revision: the full hash of a commit.
    :raises ProjectError: the tag exists for another revision.
    """
    refs = git("GET", f"/refs?filter={quoted(f'tags/{tag}')}&peelTags=true")["value"]
    for ref in refs:
        tagged = ref.get("peeledObjectId") or ref["objectId"]
        if ref["name"] == f"refs/tags/{tag}":
            if tagged != revision:
                raise ProjectError(f"the tag {tag} is there for {tagged}, not for {revision}.")
            break
    else:
        made = {"name": tag, "message": notes, "taggedObject": {"objectId": revision}}
        git("POST", "/annotatedtags", made)
    return f"{git('GET', '')['webUrl']}?version=GT{quoted(tag)}"


def protections(reviewers: list[str]) -> list[tuple[str, Callable[[], None]]]:
    """The protections of this project: a sentence for each, and the function that applies it.

    :param reviewers: e-mail addresses of users, or names of groups.
    """
    names = ", ".join(reviewers)
    return [
        (
            "main: only by pull requests that somebody else approved after the last push",
            lambda: policy(
                REVIEWS,
                {
                    "minimumApproverCount": 1,
                    "creatorVoteCounts": False,
                    "allowDownvotes": False,
                    "resetOnSourcePush": True,
                    "blockLastPusherVote": True,
                },
            ),
        ),
        (f"build: {PIPELINE} must be green, on the newest main", require_build),
        ("comments: all of them must be resolved", lambda: policy(COMMENTS, {})),
        (
            "history: linear, by squash or rebase",
            lambda: policy(MERGING, {"allowSquash": True, "allowRebase": True}),
        ),
        (
            f"owners: {names} review {', '.join(OWNED)}",
            lambda: policy(
                OWNERS,
                {
                    "requiredReviewerIds": [identity(each) for each in reviewers],
                    "minimumApproverCount": 1,
                    "creatorVoteCounts": False,
                    "filenamePatterns": list(OWNED),
                    "message": "CODEOWNERS",
                },
            ),
        ),
        (
            "nonprod: an environment that main alone deploys to",
            lambda: branch_control(environment("nonprod")),
        ),
        (
            f"prod: an environment that main alone deploys to, after one of {names} approved who "
            "did not start it",
            lambda: protect_prod(reviewers),
        ),
    ]


def policy(kind: str, settings: dict) -> None:
    """Create or update a blocking policy of the main branch.

    https://learn.microsoft.com/rest/api/azure/devops/policy/configurations
    """
    ref = f"refs/heads/{origin.MAIN}"
    scope = {"repositoryId": git("GET", "")["id"], "refName": ref, "matchKind": "Exact"}
    content = {
        "isEnabled": True,
        "isBlocking": True,
        "type": {"id": kind},
        "settings": settings | {"scope": [scope]},
    }
    for each in call("GET", f"/policy/configurations?policyType={kind}")["value"]:
        theirs = each["settings"]
        same = theirs.get("buildDefinitionId") == settings.get("buildDefinitionId")
        if same and theirs.get("message") == settings.get("message") and _covers(theirs, scope):
            call("PUT", f"/policy/configurations/{each['id']}", content)
            return
    call("POST", "/policy/configurations", content)


def _covers(settings: dict, scope: dict) -> bool:
    """Whether a policy applies to this branch of this repository and to nothing else."""
    keys = ("repositoryId", "refName")
    return [[each.get(key) for key in keys] for each in settings.get("scope", [])] == [
        [scope[key] for key in keys]
    ]


def require_build() -> None:
    """https://learn.microsoft.com/rest/api/azure/devops/build/definitions/list"""
    repository = git("GET", "")["id"]
    query = f"repositoryId={repository}&repositoryType=TfsGit&yamlFilename={quoted(PIPELINE)}"
    there = call("GET", f"/build/definitions?{query}")["value"]
    if not there:
        raise ProjectError(f"there is no pipeline of {PIPELINE} yet: make one, and come again.")
    settings = {
        "buildDefinitionId": there[0]["id"],
        "displayName": "Change",
        "queueOnSourceUpdateOnly": False,
        "manualQueueOnly": False,
        "validDuration": 0,
    }
    policy(BUILD, settings)


def environment(name: str) -> dict:
    """https://learn.microsoft.com/rest/api/azure/devops/environments/environments"""
    path = "/distributedtask/environments"
    there = call("GET", f"{path}?name={quoted(name)}")["value"]
    made = there[0] if there else call("POST", path, {"name": name, "description": ""})
    return {"type": "environment", "id": str(made["id"]), "name": name}


def protect_prod(reviewers: list[str]) -> None:
    prod = environment("prod")
    branch_control(prod)
    settings = {
        "approvers": [{"id": identity(each)} for each in reviewers],
        "executionOrder": "anyOrder",
        "minRequiredApprovers": 1,
        "requesterCannotBeApprover": True,
        "instructions": "",
        "blockedApprovers": [],
    }
    check(prod, APPROVAL, settings)


def branch_control(resource: dict) -> None:
    settings = {
        "displayName": "Branch control",
        "definitionRef": BRANCH_CONTROL,
        "inputs": {
            "allowedBranches": f"refs/heads/{origin.MAIN}",
            "ensureProtectionOfBranch": "true",
            "allowUnknownStatusBranch": "false",
        },
        "retryInterval": 5,
    }
    check(resource, TASK, settings)


def check(resource: dict, kind: dict, settings: dict) -> None:
    """Create or update a check of an environment.

    https://learn.microsoft.com/rest/api/azure/devops/approvalsandchecks/check-configurations
    """
    path = "/pipelines/checks/configurations"
    content = {"type": kind, "settings": settings, "resource": resource, "timeout": TIMEOUT}
    query = f"?resourceType={resource['type']}&resourceId={resource['id']}&$expand=settings"
    for each in call("GET", path + query, version=PREVIEW)["value"]:
        same = each.get("settings", {}).get("definitionRef", {}).get("id")
        if each["type"]["id"].lower() == kind["id"] and same in (
            None,
            settings.get("definitionRef", {}).get("id"),
        ):
            call("PATCH", f"{path}/{each['id']}", content, PREVIEW)
            return
    call("POST", path, content, PREVIEW)


def identity(name: str) -> str:
    """https://learn.microsoft.com/rest/api/azure/devops/ims/identities/read-identities

    :raises ProjectError: there is no such user or group.
    """
    base = re.sub(r"^https://dev\.azure\.com/", "https://vssps.dev.azure.com/", place().collection)
    query = f"searchFilter=General&filterValue={quoted(name)}"
    there = _ask("GET", f"{base}/_apis/identities?{query}", None, VERSION)["value"]
    if len(there) != 1:
        raise ProjectError(f"{name} names {len(there)} users or groups, not one.")
    return there[0]["id"]
