"""GitLab through its REST API: changes, releases and protection.

In a job CI_API_V4_URL and CI_PROJECT_ID name the project; elsewhere the remote ``origin`` does.
GITLAB_TOKEN is a project access token: a job's own token cannot open merge requests.
"""

import os
from collections.abc import Callable
from typing import Any

import http_json
import origin
from http_json import RefusedError, quoted

from {{ cookiecutter.__package_name }}.errors import ProjectError

# The user name that git sends with the token.
USER = "oauth2"
NOBODY, MAINTAINERS = 0, 40
RULE = "Reviewers"
PREMIUM = "this needs GitLab Premium or Ultimate"


def token() -> str:
    """:raises ProjectError: none is set."""
    if found := os.environ.get("GITLAB_TOKEN"):
        return found
    raise ProjectError("the variable GITLAB_TOKEN is missing.")


def project() -> str:
    """The address of the project in the API."""
    base, number = os.environ.get("CI_API_V4_URL"), os.environ.get("CI_PROJECT_ID")
    if not base or not number:
        server, path = origin.address()
        base, number = base or f"{server}/api/v4", number or quoted(path)
    return f"{base.rstrip('/')}/projects/{number}"


def call(method: str, path: str, body: Any = None) -> Any:
    """Call the API; ``path`` is below the project, or, after ``/../..``, below the API's root."""
    base = project()
    if path.startswith("/../.."):
        base, path = base.rpartition("/projects/")[0], path.removeprefix("/../..")
    return http_json.ask(method, base + path, {"PRIVATE-TOKEN": token()}, body)


def found(path: str) -> Any:
    """The answer to GET; None if there is nothing (404)."""
    try:
        return call("GET", path)
    except RefusedError as problem:
        if problem.status == 404:
            return None
        raise


def open_change(branch: str, title: str, body: str) -> str:
    """Open a merge request for a pushed branch, or update the open one; returns its address.

    https://docs.gitlab.com/api/merge_requests/
    """
    text = {"title": title, "description": body}
    ends = {"source_branch": branch, "target_branch": origin.MAIN}
    query = "&".join(f"{key}={quoted(value)}" for key, value in ends.items())
    if there := call("GET", f"/merge_requests?state=opened&{query}"):
        return call("PUT", f"/merge_requests/{there[0]['iid']}", text)["web_url"]
    return call("POST", "/merge_requests", ends | text | {"remove_source_branch": True})["web_url"]


def release(tag: str, revision: str, notes: str) -> str:
    """Create a release of a revision, unless it exists; returns its address.

    https://docs.gitlab.com/api/tags/#get-a-single-repository-tag
    https://docs.gitlab.com/api/releases/

    :param revision: the full hash of a commit.
    :raises ProjectError: the tag exists for another revision.
    """
    there = found(f"/repository/tags/{quoted(tag)}")
    if there and there["commit"]["id"] != revision:
        raise ProjectError(f"the tag {tag} is there for {there['commit']['id']}, not {revision}.")
    made = found(f"/releases/{quoted(tag)}")
    if not made:
        content = {"tag_name": tag, "ref": revision, "name": tag, "description": notes}
        made = call("POST", "/releases", content)
    return made["_links"]["self"]


def protections(reviewers: list[str]) -> list[tuple[str, Callable[[], None]]]:
    """The protections of this project: a sentence for each, and the function that applies it.

    :param reviewers: names of users who are members of the project.
    """
    names = ", ".join(reviewers)
    return [
        (
            "main: nobody pushes, maintainers merge, never forced",
            protect_main,
        ),
        (
            "merge requests: their pipeline and all threads must be done; linear history",
            require_pipelines,
        ),
        (f"code owners: they approve what is theirs ({PREMIUM})", require_code_owners),
        (
            f"approvals: one of {names}, not the author, again after a push ({PREMIUM})",
            lambda: require_approvals(reviewers),
        ),
        ("nonprod: an environment", lambda: environment("nonprod")),
        (
            f"prod: an environment that maintainers deploy to, after each of {names} approved "
            f"({PREMIUM}); only pipelines of main have its job and its protected variables",
            lambda: protect_prod(reviewers),
        ),
    ]


def protect_main() -> None:
    """https://docs.gitlab.com/api/protected_branches/

    Without Premium, push access can only be set when the protection is created.
    """
    there = found(f"/protected_branches/{origin.MAIN}")
    if there:
        pushers = [each["access_level"] for each in there["push_access_levels"]]
        if pushers == [NOBODY] and not there["allow_force_push"]:
            return
        call("DELETE", f"/protected_branches/{origin.MAIN}")
    wanted = {
        "name": origin.MAIN,
        "push_access_level": NOBODY,
        "merge_access_level": MAINTAINERS,
        "allow_force_push": False,
    }
    call("POST", "/protected_branches", wanted)


def require_pipelines() -> None:
    """https://docs.gitlab.com/api/projects/#edit-a-project"""
    settings = {
        "only_allow_merge_if_pipeline_succeeds": True,
        "allow_merge_on_skipped_pipeline": False,
        "only_allow_merge_if_all_discussions_are_resolved": True,
        "merge_method": "ff",
    }
    call("PUT", "", settings)


def require_code_owners() -> None:
    """https://docs.gitlab.com/api/protected_branches/#update-a-protected-branch"""
    path = f"/protected_branches/{origin.MAIN}"
    set_to = call("PATCH", path, {"code_owner_approval_required": True})
    if not (set_to or {}).get("code_owner_approval_required"):
        raise ProjectError(f"GitLab left it off: {PREMIUM}.")


def require_approvals(reviewers: list[str]) -> None:
    """https://docs.gitlab.com/api/merge_request_approvals/"""
    settings = {
        "reset_approvals_on_push": True,
        "merge_requests_author_approval": False,
        "merge_requests_disable_committers_approval": True,
        "disable_overriding_approvers_per_merge_request": True,
    }
    call("POST", "/approvals", settings)
    rule = {"name": RULE, "approvals_required": 1, "user_ids": [user(each) for each in reviewers]}
    for each in call("GET", "/approval_rules?per_page=100"):
        if each["name"] == RULE:
            call("PUT", f"/approval_rules/{each['id']}", rule)
            return
    call("POST", "/approval_rules", rule)


def environment(name: str) -> None:
    """https://docs.gitlab.com/api/environments/"""
    if not call("GET", f"/environments?name={quoted(name)}"):
        call("POST", "/environments", {"name": name})


def protect_prod(reviewers: list[str]) -> None:
    """https://docs.gitlab.com/api/protected_environments/"""
    environment("prod")
    wanted = {user(each) for each in reviewers}
    there = found("/protected_environments/prod")
    if not there:
        rules = [{"user_id": each, "required_approvals": 1} for each in wanted]
        access = [{"access_level": MAINTAINERS}]
        content = {"name": "prod", "deploy_access_levels": access, "approval_rules": rules}
        call("POST", "/protected_environments", content)
        return
    rules = {each["user_id"]: each["id"] for each in there.get("approval_rules", [])}
    changed = [{"id": rules[each], "_destroy": True} for each in rules.keys() - wanted]
    changed += [{"user_id": each, "required_approvals": 1} for each in wanted - rules.keys()]
    if changed:
        call("PUT", "/protected_environments/prod", {"name": "prod", "approval_rules": changed})


def user(name: str) -> int:
    """https://docs.gitlab.com/api/users/#list-users

    :raises ProjectError: there is no such user.
    """
    users = call("GET", f"/../../users?username={quoted(name)}")
    if not users:
        raise ProjectError(f"there is no user {name}.")
    return users[0]["id"]
