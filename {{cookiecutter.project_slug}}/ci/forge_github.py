"""GitHub through its REST API: changes, releases and protection.

In a workflow GITHUB_API_URL and GITHUB_REPOSITORY name the repository; elsewhere the remote
``origin`` does. The token is GH_TOKEN or GITHUB_TOKEN.
"""

import os
from collections.abc import Callable
from typing import Any

import http_json
import origin
from http_json import RefusedError, quoted

from {{ cookiecutter.__package_name }}.errors import ProjectError

# The user name that git sends with the token.
USER = "x-access-token"
WORKFLOW = "change.yml"
# The names of that workflow's jobs, as its runs show them.
CHECKS = (
    "style, contract, vulnerabilities, secrets",
    "tests",
    "model and image",
)
# The id of the app GitHub Actions: a check of the same name by another app does not count.
ACTIONS = 15368
RULESET = "main: reviewed and green"


def token() -> str:
    """:raises ProjectError: none is set."""
    for name in ("GH_TOKEN", "GITHUB_TOKEN"):
        if found := os.environ.get(name):
            return found
    raise ProjectError("the variable GITHUB_TOKEN is missing.")


def repository() -> tuple[str, str]:
    """The address of the API, and owner/name."""
    base, name = os.environ.get("GITHUB_API_URL"), os.environ.get("GITHUB_REPOSITORY")
    if not base or not name:
        server, path = origin.address()
        hosted = server == "https://github.com"
        base = base or ("https://api.github.com" if hosted else f"{server}/api/v3")
        name = name or path
    return base.rstrip("/"), name


def call(method: str, path: str, body: Any = None, whole: bool = False) -> Any:
    """Call the API; ``path`` is below the repository, or, if ``whole``, below the API's root."""
    base, name = repository()
    headers = {
        "Authorization": f"Bearer {token()}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    return http_json.ask(method, f"{base}{'' if whole else f'/repos/{name}'}{path}", headers, body)


def open_change(branch: str, title: str, body: str) -> str:
    """Open a pull request for a pushed branch, or update the open one; returns its address.

    GitHub starts no workflow for events that a workflow's own token causes, except for a dispatch.
    So this dispatches Change, whose jobs the branch's protection requires.

    https://docs.github.com/rest/pulls/pulls
    https://docs.github.com/rest/actions/workflows#create-a-workflow-dispatch-event
    """
    text = {"title": title, "body": body}
    owner = repository()[1].partition("/")[0]
    query = f"?state=open&base={origin.MAIN}&head={quoted(f'{owner}:{branch}')}"
    if found := call("GET", f"/pulls{query}"):
        change = call("PATCH", f"/pulls/{found[0]['number']}", text)
    else:
        change = call("POST", "/pulls", {"head": branch, "base": origin.MAIN, **text})
    if os.environ.get("GITHUB_ACTIONS"):
        call("POST", f"/actions/workflows/{WORKFLOW}/dispatches", {"ref": branch})
    return change["html_url"]


def release(tag: str, revision: str, notes: str) -> str:
    """Create a release of a revision, unless it exists; returns its address.

    https://docs.github.com/rest/releases/releases
    https://docs.github.com/rest/commits/commits#get-a-commit

    :param revision: the full hash of a commit.
    :raises ProjectError: the tag exists for another revision.
    """
    try:
        tagged = call("GET", f"/commits/{quoted(f'tags/{tag}')}")["sha"]
    except RefusedError as problem:
        if problem.status not in (404, 422):
            raise
        tagged = None
    if tagged not in (None, revision):
        raise ProjectError(f"the tag {tag} is there for {tagged}, not for {revision}.")
    try:
        return call("GET", f"/releases/tags/{quoted(tag)}")["html_url"]
    except RefusedError as problem:
        if problem.status != 404:
            raise
    made = {"tag_name": tag, "target_commitish": revision, "name": tag, "body": notes}
    return call("POST", "/releases", made)["html_url"]


def protections(reviewers: list[str]) -> list[tuple[str, Callable[[], None]]]:
    """The protections of this project: a sentence for each, and the function that applies it.

    :param reviewers: names of users, or of teams as organization/team.
    """
    names = ", ".join(reviewers)
    return [
        (
            "main: only by pull requests that a code owner approved after the last push, with the "
            f"checks {'; '.join(CHECKS)}; linear, never forced or deleted, for administrators too",
            protect_main,
        ),
        (
            "workflows: their token only reads unless a job says otherwise, and may open pull "
            "requests",
            restrict_workflows,
        ),
        ("nonprod: an environment that main alone deploys to", lambda: environment("nonprod", [])),
        (
            f"prod: an environment that main alone deploys to, after {names} approved, none of "
            "them his own",
            lambda: environment("prod", reviewers),
        ),
    ]


def protect_main() -> None:
    """https://docs.github.com/rest/repos/rules"""
    review = {
        "allowed_merge_methods": ["squash", "rebase"],
        "dismiss_stale_reviews_on_push": True,
        "require_code_owner_review": True,
        "require_last_push_approval": True,
        "required_approving_review_count": 1,
        "required_review_thread_resolution": True,
    }
    checks = {
        "strict_required_status_checks_policy": True,
        "required_status_checks": [{"context": name, "integration_id": ACTIONS} for name in CHECKS],
    }
    rules = {
        "name": RULESET,
        "target": "branch",
        "enforcement": "active",
        "bypass_actors": [],
        "conditions": {"ref_name": {"include": [f"refs/heads/{origin.MAIN}"], "exclude": []}},
        "rules": [
            {"type": "deletion"},
            {"type": "non_fast_forward"},
            {"type": "required_linear_history"},
            {"type": "pull_request", "parameters": review},
            {"type": "required_status_checks", "parameters": checks},
        ],
    }
    there = call("GET", "/rulesets?per_page=100&includes_parents=false")
    numbers = [each["id"] for each in there if each["name"] == RULESET]
    if numbers:
        call("PUT", f"/rulesets/{numbers[0]}", rules)
    else:
        call("POST", "/rulesets", rules)


def restrict_workflows() -> None:
    """https://docs.github.com/rest/actions/permissions#set-default-workflow-permissions-for-a-repository

    One setting lets workflows open and approve pull requests. Only code owners' approvals count.
    """
    rights = {"default_workflow_permissions": "read", "can_approve_pull_request_reviews": True}
    call("PUT", "/actions/permissions/workflow", rights)


def environment(name: str, reviewers: list[str]) -> None:
    """https://docs.github.com/rest/deployments/environments
    https://docs.github.com/rest/deployments/branch-policies
    """
    settings = {
        "reviewers": [reviewer(each) for each in reviewers],
        "prevent_self_review": bool(reviewers),
        "deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": True},
    }
    call("PUT", f"/environments/{name}", settings)
    policies = f"/environments/{name}/deployment-branch-policies"
    there = call("GET", f"{policies}?per_page=100")["branch_policies"]
    for each in there:
        if each["name"] != origin.MAIN:
            call("DELETE", f"{policies}/{each['id']}")
    if origin.MAIN not in [each["name"] for each in there]:
        call("POST", policies, {"name": origin.MAIN, "type": "branch"})


def reviewer(name: str) -> dict:
    """https://docs.github.com/rest/users/users#get-a-user
    https://docs.github.com/rest/teams/teams#get-a-team-by-name
    """
    organization, _, team = name.partition("/")
    if team:
        path = f"/orgs/{quoted(organization)}/teams/{quoted(team)}"
    else:
        path = f"/users/{quoted(name)}"
    return {"type": "Team" if team else "User", "id": call("GET", path, whole=True)["id"]}
